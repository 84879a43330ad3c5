"""What tabletop instructions name."""

from nearer.evaluation.label_sources import (
    things_of,
)


def test_things_of_reworded_instruction_are_equal() -> None:
    together = things_of("push the red moon to the blue cube")
    assert together == things_of("move the red crescent next to the blue box")
    assert together == things_of("push the blue cube to the red moon"), "whichever is pushed"
    assert together != things_of("push the blue cube to the red star")
    assert things_of("fold the towel") is None
