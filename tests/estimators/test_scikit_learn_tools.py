"""Our estimators in scikit-learn's tools: its checks, pipelines, searches, column transformers, outputs, metadata."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import sklearn
from scipy.sparse import csr_array, csr_matrix, issparse
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.extmath import row_norms

from gpukmeans import BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans

ESTIMATORS = [BisectingKMeans, KMeans, MiniBatchKMeans, SphericalKMeans]


#: What scikit-learn expects to fail of its own KMeans, too: k-means++ draws other rows where there are more of them.
#: From given centers weights do equal repetition (see test_lloyd_laws).
DRAWN = "sample_weight is not equivalent to repeating rows: other seeds are drawn"
EXPECTED = {f"check_sample_weight_equivalence_on_{kind}_data": DRAWN for kind in ("dense", "sparse")}


@parametrize_with_checks(
    [cls(backend="numpy") for cls in ESTIMATORS], expected_failed_checks=lambda estimator: EXPECTED
)
def test_scikit_learns_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(params=ESTIMATORS, ids=lambda cls: cls.__name__)
def make(request):
    def make(n_clusters=3, **params):
        return request.param(n_clusters, **{"random_state": 0, "backend": "numpy", **params})

    return make


def test_a_pipeline(make):
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), PCA(20, random_state=0), make(10))
    labels = pipeline.fit_predict(X)
    assert labels.shape == y.shape
    assert np.array_equal(pipeline.predict(X), labels)
    assert pipeline.transform(X).shape == (len(X), 10)
    assert pipeline.score(X) < 0
    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.predict(X), labels)


def test_a_pipeline_is_scikit_learns():
    X = load_digits().data
    ours, theirs = (
        make_pipeline(StandardScaler(), PCA(20, random_state=0), cls(10, random_state=0)).fit(X)
        for cls in (KMeans, SklearnKMeans)
    )
    assert np.array_equal(ours.predict(X), theirs.predict(X))


def test_distances_to_centers_as_features(make):
    X, y = load_digits(return_X_y=True)
    model = make_pipeline(make(30), StandardScaler(), LogisticRegression(max_iter=500))
    assert cross_val_score(model, X[:900], y[:900], cv=3).mean() > 0.8


def test_grid_search_finds_the_number_of_clusters(make):
    X, _ = load_iris(return_X_y=True)

    def silhouette(model, X, y=None):
        labels = model.predict(X)
        return silhouette_score(X, labels) if len(set(labels)) > 1 else -1.0

    search = GridSearchCV(make(), {"n_clusters": [2, 3, 5], "init": ["k-means++", "random"]}, scoring=silhouette, cv=3)
    search.fit(X)
    assert set(search.best_params_) == {"n_clusters", "init"}
    assert search.best_estimator_.cluster_centers_.shape == (search.best_params_["n_clusters"], 4)


def test_a_search_by_score_uses_minus_the_inertia(make):
    X, _ = load_iris(return_X_y=True)
    search = GridSearchCV(make(), {"n_clusters": [2, 8]}, cv=3).fit(X)
    assert search.best_params_ == {"n_clusters": 8}


def test_a_column_transformer_on_a_frame(make):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(load_iris().data, columns=list("abcd"))
    transformer = make_column_transformer((make(3), ["a", "b"]), remainder="passthrough").set_output(transform="pandas")
    out = transformer.fit_transform(frame)
    name = type(make()).__name__.lower()
    assert list(out.columns) == [f"{name}__{name}{i}" for i in range(3)] + ["remainder__c", "remainder__d"]
    assert isinstance(transformer, ColumnTransformer)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_in_and_out(make, library):
    frames = pytest.importorskip(library)
    X = load_iris().data
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate("abcd")})
    model = make().fit(frame)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert np.array_equal(model.labels_, make().fit(X).labels_)
    out = model.set_output(transform=library).transform(frame)
    assert isinstance(out, frames.DataFrame)
    assert list(out.columns) == model.get_feature_names_out().tolist()
    assert np.array_equal(model.predict(frame), model.labels_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list("dcba")])


def test_sample_weight_is_routed(make):
    X = load_iris().data
    weight = np.arange(len(X)) % 3 + 0.5
    with sklearn.config_context(enable_metadata_routing=True):
        model = make().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = Pipeline([("scale", StandardScaler().set_fit_request(sample_weight=False)), ("cluster", model)])
        pipeline.fit(X, sample_weight=weight)
        scaled = StandardScaler().fit_transform(X)
        assert np.array_equal(pipeline[-1].labels_, make().fit(scaled, sample_weight=weight).labels_)


def test_clones_and_parameters(make):
    model = make(5, tol=0.5)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(n_clusters=2).n_clusters == 2
    with pytest.raises(ValueError, match="Invalid parameter 'clusters'"):
        model.set_params(clusters=2)
    assert "n_clusters=2" in repr(model)
    assert "<div" in model._repr_html_()


def drawn(rows, n_clusters, random_state):
    rows = rows[random_state.permutation(rows.shape[0])[:n_clusters]]
    return rows.toarray() if issparse(rows) else rows


@pytest.mark.parametrize("init", ["k-means++", "random", "callable", "array"])
@pytest.mark.parametrize("container", [np.asarray, csr_array, csr_matrix])
def test_a_private_method_that_others_call_draws_scikit_learns_starts(make, init, container):
    X = container(load_iris().data)
    weight = np.random.default_rng(0).random(150)
    weight[:50] = 0.0
    model = make(4)
    init = drawn if init == "callable" else init
    for seed in range(4):
        for sizes in ({}, {"init_size": 60}, {"n_centroids": 2}, {"init_size": 1000}):
            k = sizes.get("n_centroids", 4)
            given = load_iris().data[:k] if isinstance(init, str) and init == "array" else init
            got, want = (
                one._init_centroids(X, row_norms(X, squared=True), given, np.random.RandomState(seed), weight, **sizes)
                for one in (model, SklearnKMeans(4, init=given))
            )
            assert np.array_equal(got, want)
    assert not hasattr(model, "n_features_in_")


def test_layouts_and_dtypes_give_one_clustering(make):
    X = load_digits().data[:300]
    wanted = make(6).fit(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    variants = {
        "Fortran order": np.asfortranarray(X),
        "a view with steps": np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2],
        "read only": read_only,
        "int64": X.astype(np.int64),
        "int8": X.astype(np.int8),
        "uint8": X.astype(np.uint8),
        "bool and lists": X.tolist(),
        "float16": X.astype(np.float16),
        "big endian": X.astype(">f8"),
        "longdouble": X.astype(np.longdouble),
    }
    for name, variant in variants.items():
        kept = np.array(variant)
        got = make(6).fit(variant)
        assert np.array_equal(got.labels_, wanted.labels_), name
        assert np.array_equal(got.cluster_centers_, wanted.cluster_centers_), name
        assert np.array_equal(np.array(variant), kept), name


def test_warnings_name_the_callers_line(make):
    X = np.repeat(np.arange(1.0, 4.0), 4)[:, None]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(5).fit(X)
        if not isinstance(make(), BisectingKMeans):  # which takes no centers
            make(3, init=X[::4], n_init=4).fit(X)
    assert caught
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_score_of_what_was_fitted_is_minus_its_inertia(make, dtype):
    """To the bit, also where weights are rounded to float32 first; bisections go by the nearest of all centers."""
    X = load_digits().data[:400].astype(dtype)
    for weight in (None, np.random.default_rng(4).random(len(X))):
        model = make(5).fit(X, sample_weight=weight)
        score = model.score(X, sample_weight=weight)
        if isinstance(model, BisectingKMeans):
            assert score > -model.inertia_
        else:
            assert score == -model.inertia_


def test_a_function_transformer_after_it(make):
    pipeline = make_pipeline(make(), FunctionTransformer(np.log1p))
    assert np.isfinite(pipeline.fit_transform(load_iris().data)).all()
