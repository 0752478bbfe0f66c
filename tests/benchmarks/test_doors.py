"""Ratios of imported networks: of several peers the fastest counts."""

from __future__ import annotations

import doors

TIMES = {"ort_int8": 4.0, "openvino_int8": 3.0, "nncf_int8": 3.5, "ours_int8": 2.0} | {
    "openvino_avx2": 6.0,
    "nncf_avx2": 5.0,
    "ours_avx2": 4.0,
}


def test_the_fastest_peer_counts() -> None:
    assert doors.ratios_of(TIMES) == {
        "doors_int8_vs_ort_int8": 2.0,
        "doors_int8_vs_best_int8": 1.5,
        "doors_avx2_vs_openvino_int8_avx2": 1.25,
    }


def test_one_peer_is_not_the_best_of_several() -> None:
    assert doors.ratios_of({"ort_int8": 4.0, "ours_int8": 2.0}) == {"doors_int8_vs_ort_int8": 2.0}
