"""What may change when a run is resumed, and what differs between two configurations."""

from typing import Any

from ssiu.config.schema import default_of, loss_terms_of

FREE_ON_RESUME = frozenset(
    ("data_path", "hr_folder", "lr_folder", "image_list", "threads", "cache_dir", "cache_gb")
    + ("device", "gpu_ids", "compile", "checkpoint_activations")
    + ("log_path", "log_name", "log_every", "tracker", "save_every", "save_image", "keep_last")
    + ("test_every", "validate_every", "eval_sets", "tile", "self_ensemble")
)
"""Keys that may differ when a run is resumed: they say where and how it runs, not what it computes."""


def in_one_spelling(values: dict[str, Any]) -> dict[str, Any]:
    """The settings ``values``, so that two that mean the same are equal: lambda_l1 and lambda_fft are losses."""
    terms = {name: term for name, term in loss_terms_of(values).items() if term}
    return {**values, "losses": terms, "lambda_l1": None, "lambda_fft": None}


def changed_settings(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between the settings of a run and those it would have ``now``, but for `FREE_ON_RESUME`.

    One by one: ``lr: 0.001 -> 0.0005``. ``then`` may be an older version's, which had fewer keys.
    """
    then = in_one_spelling({key: then.get(key, default_of(key, now)) for key in now})
    now = in_one_spelling(now)
    return [f"{key}: {then[key]} -> {now[key]}" for key in now if key not in FREE_ON_RESUME and then[key] != now[key]]
