"""Choose C of a head by cross-validation with one method, and print seconds, peak memory and the result as JSON.

    python head_search.py METHOD DATA HEAD THREADS

METHOD is ``featx``, ``sklearn`` (GridSearchCV), ``sklearn-exact`` (GridSearchCV with tol = 1e-8, the reference for the
result of featx), ``sklearn-once`` (one fit, with the last C), ``intelex`` (GridSearchCV, patched by
scikit-learn-intelex) or ``array-api`` (GridSearchCV with torch tensors). DATA is an .npz of X, y, train, test, Cs and
folds. Its features are normalized, so that all methods solve the same problems.
"""

import json
import os
import sys
import time
import warnings

METHOD, DATA, HEAD, THREADS = sys.argv[1:5]
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = THREADS
if METHOD == "array-api":
    os.environ["SCIPY_ARRAY_API"] = "1"
if METHOD == "intelex":
    from sklearnex import patch_sklearn

    patch_sklearn(verbose=False)

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC
from worker import peak_mb

# The estimators of featx, written with scikit-learn alone, because the other environments have no featx.
ESTIMATORS = {
    "linear-svc": (LinearSVC(dual="auto", random_state=0, max_iter=10_000), "C"),
    "softmax": (LogisticRegression(max_iter=10_000), "C"),
    "ovr-logistic": (OneVsRestClassifier(LogisticRegression(max_iter=10_000)), "estimator__C"),
}


if METHOD == "sklearn-exact":
    estimator, name = ESTIMATORS[HEAD]
    estimator.set_params(**{name.replace("C", "tol"): 1e-8, name.replace("C", "max_iter"): 1_000_000})


def by_featx(data):
    from featx import HeadSearchCV

    X, y = data["X"][data["train"]], data["y"][data["train"]]
    began = time.perf_counter()
    search = HeadSearchCV((HEAD,), data[f"Cs_{HEAD}"].tolist(), cv=5, n_jobs=int(THREADS), random_state=0).fit(X, y)
    seconds = time.perf_counter() - began
    return seconds, {row.C: row.mean for row in search.candidates_}, search.best_params_["C"], search


def by_grid_search(data):
    estimator, name = ESTIMATORS[HEAD]
    X, y = data["X"][data["train"]], data["y"][data["train"]]
    folds = [(np.flatnonzero(data["folds"] != fold), np.flatnonzero(data["folds"] == fold)) for fold in range(5)]
    search = GridSearchCV(estimator, {name: data[f"Cs_{HEAD}"].tolist()}, cv=folds)
    began = time.perf_counter()
    if METHOD == "array-api":
        import torch

        torch.set_num_threads(int(THREADS))
        codes = np.unique(y, return_inverse=True)[1]
        with sklearn.config_context(array_api_dispatch=True):
            search.fit(torch.from_numpy(X), torch.from_numpy(codes))
    else:
        search.fit(X, y)
    seconds = time.perf_counter() - began
    means = dict(zip(data[f"Cs_{HEAD}"].tolist(), search.cv_results_["mean_test_score"].tolist(), strict=True))
    return seconds, means, search.best_params_[name], search


def by_one_fit(data):
    estimator, name = ESTIMATORS[HEAD]
    C = float(data[f"Cs_{HEAD}"][-1])
    began = time.perf_counter()
    fitted = estimator.set_params(**{name: C}).fit(data["X"][data["train"]], data["y"][data["train"]])
    return time.perf_counter() - began, {}, C, fitted


def main():
    warnings.simplefilter("ignore")
    data = dict(np.load(DATA))
    methods = {"featx": by_featx, "sklearn-once": by_one_fit}
    seconds, means, best, fitted = methods.get(METHOD, by_grid_search)(data)
    answer = {"seconds": seconds, "cv": {str(C): mean for C, mean in means.items()}, "C": best}
    if METHOD != "array-api":
        answer["test"] = float((fitted.predict(data["X"][data["test"]]) == data["y"][data["test"]]).mean())
    answer["peak_mb"] = peak_mb()
    sys.stdout.write(json.dumps(answer) + "\n")


main()
