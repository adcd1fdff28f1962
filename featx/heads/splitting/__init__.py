"""Folds and held-out rows, stratified by class or label and split by group."""
