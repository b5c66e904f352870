"""Identifiers: made to sort by time, and told from what cannot be one without a look-up."""

import pytest

from app.core.ids import is_id, new_id


def test_later_ids_sort_after_earlier_ones_and_say_what_they_name() -> None:
    made = [new_id("job") for _ in range(100)]
    assert made == sorted(made)
    assert all(is_id(each, prefix="job") for each in made)
    assert not any(is_id(each, prefix="file") for each in made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job",
        "job_",
        "01m823xe2bewaaqepnk4s10yx9",
        "job_01m823xe2bewaaqepnk4s10yx",
        "job_01m823xe2bewaaqepnk4s10yx9x",
        "job_01m823xe2bewaaqepnk4s10yx9\n",
        "job_01m823xe2bewaaqepnk4s10yxi",
        "job_01M823XE2BEWAAQEPNK4S10YX9",
        "job_01m823xe2bewaaqepnk4s10yx\u0663",
        "jobs_01m823xe2bewaaqepnk4s10yx9",
        "job__1m823xe2bewaaqepnk4s10yx9",
    ],
)
def test_what_new_id_never_makes_is_no_id(text: str) -> None:
    assert not is_id(text, prefix="job")
