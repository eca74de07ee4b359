"""What `drlctl profile --privacy` does, with an attacker who hardly tries."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from drlctl.privacy import NUM_SHOWN, attack_model
from runtime.models.reconstruction import AttackSpec
from runtime.profile import load_profile, save_profile
from tests.envs.profiles import make_profile


@pytest.mark.slow
def test_a_profile_learns_what_leaks(digits_model: Path, tmp_path: Path) -> None:
    """A figure per cut and variant, that survives the file; a row each; and a PNG per variant."""
    phases: list[str] = []
    hasty = AttackSpec(epochs=1, batch_size=16, max_pictures=32, width=2)
    attacked = attack_model(digits_model, lambda text, share: phases.append(text), hasty)
    save_profile(attacked.fill_in(make_profile()), tmp_path / "profile.json")
    for variant in load_profile(tmp_path / "profile.json").variants.values():
        assert len(variant.reconstruction_nmse) == 8
        assert variant.reconstruction_nmse[0] == 0.0
        assert all(error > 0.02 for error in variant.reconstruction_nmse[1:])
    assert len(attacked.rows()) == 16
    assert phases[-1] == "attacking cut 7 of int8"
    pictures = attacked.save_pictures(tmp_path / "profile.json")
    assert [path.name for path in pictures] == ["profile-reconstructed-fp32.png", "profile-reconstructed-int8.png"]
    for path in pictures:
        with Image.open(path) as image:
            assert image.width > 100 * NUM_SHOWN


def test_profiles_without_it_are_as_before(tmp_path: Path) -> None:
    """The field is empty unless it was measured."""
    save_profile(make_profile(), tmp_path / "profile.json")
    assert load_profile(tmp_path / "profile.json").variants["fp32"].reconstruction_nmse == ()
