"""The recipe of a fine-tuning: its checks, its command-line options and the layers that it trains."""

import dataclasses

import pytest
import torch

from featx.cli.finetune import command
from featx.errors import SpecError
from featx.finetuning import Recipe
from featx.finetuning.recipe import OPTION_NAMES, first_trained_layer, last_frozen_block
from featx.finetuning.trainable_layers import make_head_layers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 1.0}, "--dropout of finetune must be at least 0 and below 1, got 1.0"),
        ({"ema_decay": 1.0}, "--ema-decay of finetune must be at least 0 and below 1, got 1.0"),
        ({"epochs": -1}, "--epochs of finetune must be at least 0, got -1"),
        ({"random_state": -1}, "--seed of finetune must be at least 0, got -1"),
        ({"batch_size": 0}, "--batch-size of finetune must be at least 1, got 0"),
        ({"lr": 0.0}, "--lr of finetune must be above 0, got 0.0"),
        ({"val_size": 1.0}, "--val-size of finetune must be between 0 and 1, got 1.0"),
        ({"init": "zeros"}, "--init of finetune must be one of head, random, got 'zeros'"),
        ({"schedule": "step"}, "--schedule of finetune must be one of cosine, constant, got 'step'"),
        ({"unfreeze": "block6"}, "--unfreeze of finetune must be block1 to block5, layers=1 to layers=13, all or none"),
        ({"unfreeze": "layers=14"}, "got 'layers=14'"),
        ({"from_scratch": True, "epochs": 0}, "--from-scratch of finetune trains backbone and head together: give --"),
        ({"from_scratch": True, "head_epochs": 1}, "--from-scratch of finetune trains backbone and head together"),
    ],
)
def test_an_error_about_a_recipe_names_the_option(values, message):
    with pytest.raises(SpecError, match=message):
        Recipe(**values)


def test_the_names_in_error_messages_are_options_of_the_command():
    options = {option for parameter in command.params for option in parameter.opts}
    names = [field.name for field in dataclasses.fields(Recipe)]
    assert {"--" + OPTION_NAMES.get(name, name).replace("_", "-") for name in names} < options


def test_the_command_has_the_defaults_of_the_recipe():
    options = command.make_context("finetune", ["m.featx", "s.h5", "-o", "t.featx", "--root", "."]).params
    for field in dataclasses.fields(Recipe):
        assert options[OPTION_NAMES.get(field.name, field.name)] == field.default, field.name


def test_a_recipe_prints_the_fields_that_are_not_the_default():
    assert repr(Recipe(epochs=2, amp=False)) == "Recipe(epochs=2, amp=False)"


def test_from_scratch_implies_random_initialization():
    assert Recipe(from_scratch=True, init="head") == Recipe(from_scratch=True, init="random")


def test_unfreeze_decides_the_first_trained_layer():
    layers = {name: first_trained_layer(name) for name in ("block5", "layers=4", "layers=13", "block1", "all", "none")}
    assert layers == {"block5": 24, "layers=4": 21, "layers=13": 0, "block1": 0, "all": 0, "none": None}


def test_last_layers_are_counted_from_the_end_of_the_models_own_backbone():
    assert [first_trained_layer(name, 4) for name in ("layers=1", "layers=4", "all")] == [21, 14, 0]
    with pytest.raises(SpecError, match="layers=1 to layers=10"):
        first_trained_layer("layers=11", 4)


def test_the_last_frozen_block_ends_before_the_first_trained_layer():
    assert [last_frozen_block(first_layer) for first_layer in (24, 21, 17, 0)] == [4, 3, 3, 0]


def test_a_hidden_layer_that_starts_as_the_head_needs_two_units_per_class():
    with pytest.raises(SpecError, match=r"--hidden of finetune must be at least 6 .* 3 logits, got 5; give more units"):
        make_head_layers(torch.ones(3, 2), torch.zeros(3), Recipe(hidden=5))
    assert make_head_layers(torch.ones(3, 2), torch.zeros(3), Recipe(hidden=5, init="random"))[0].out_features == 5
