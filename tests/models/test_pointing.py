"""The built-in vision-language model: its world, its words, and whether it points right."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nearer.models.pointing.pretraining.cards import Card, emoji_cards
from PIL import Image

from nearer.core.callbacks import Progress, ignore_progress
from nearer.core.errors import CheckpointError, ConfigError
from nearer.models.pointing.losses import matching_loss, naming_loss, pointing_loss
from nearer.models.pointing.pretraining.captions import draw_sentence, words_of_the_corpus
from nearer.models.pointing.pretraining.corpus import draw_batch, draw_example, mirrored
from nearer.models.pointing.pretraining.measure import measure
from nearer.models.pointing.pretraining.outlines import OUTLINES
from nearer.models.pointing.pretraining.renderer import render
from nearer.models.pointing.pretraining.scene import HEIGHT_PX, WIDTH_PX, draw_scene
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.pretraining.train import pretrain
from nearer.models.pointing.sentence_encoder import NUM_UNKNOWN, Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig, peaks
from nearer.models.pointing.vocabulary import HELD_OUT, SHAPE_WORDS
from nearer.models.pointing.weights import load_pointing, save_pointing

SENTENCE = "push the red moon to the blue cube"


@pytest.fixture(scope="module")
def tower() -> PointingTower:
    return load_pointing()


def rng(*keys: int) -> np.random.Generator:
    return np.random.default_rng([31, *keys])


def some_pictures(num: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([draw_example(rng(i)).picture for i in range(num)]))


# The world


def test_the_camera_sees_the_ground_where_it_projects_it() -> None:
    camera = draw_scene(rng(0)).camera
    ground = np.array([[0.0, 0.0], [0.1, -0.05]])
    raised = np.concatenate([ground, np.zeros((2, 1))], axis=1)
    assert np.allclose(camera.ground(camera.project(raised)), ground)
    higher = camera.project(np.array([[0.0, 0.0, 0.05]]))
    assert higher[0, 1] < camera.project(raised)[0, 1], "up in the world is up in the picture"


def test_what_is_labelled_has_its_colour_there() -> None:
    """A lone thing's projected centre is of its colour: red, green or blue wins by far."""
    channels = {"red": 0, "green": 1, "blue": 2}
    seen = right = 0
    names = [(colour, "square") for colour in channels] * 10
    for i, name in enumerate(names):
        example = draw_example(rng(1, i), [name])
        if not example.names:  # behind the pole
            continue
        u, v = example.points[0]
        pixel = example.picture[int(v * HEIGHT_PX), int(u * WIDTH_PX)].astype(int)
        seen += 1
        right += int(pixel.argmax() == channels[name[0]])
    assert seen >= 20
    assert right >= 0.9 * seen


def test_a_pole_in_front_hides_things() -> None:
    shares = [render(draw_scene(rng(2, i)), rng(2, i)).visible for i in range(40)]
    every = np.concatenate(shares)
    assert (every <= 1).all()
    assert (every > 0.99).any()
    assert (every < 0.6).any()


def test_scenes_are_the_seeds() -> None:
    first, again, other = (draw_example(rng(3, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first.picture, again.picture)
    assert first.names == again.names
    assert not np.array_equal(first.picture, other.picture)


def test_no_scene_of_its_own_choice_shows_a_held_out_pair() -> None:
    shown = {name for i in range(60) for name in draw_example(rng(4, i)).names}
    assert not shown & HELD_OUT
    assert len(shown) > 60
    assert {shape for _, shape in HELD_OUT} <= set(OUTLINES) == set(SHAPE_WORDS)


def test_a_mirrored_example_points_at_the_mirrored_pixel() -> None:
    example = draw_example(rng(5))
    turned = mirrored(example)
    assert np.array_equal(turned.picture[:, ::-1], example.picture)
    assert np.allclose(turned.points[:, 0] + example.points[:, 0], 1)
    assert np.allclose(turned.places[1, 0] + example.places[1, 2], [1, 2 * example.places[1, 2, 1]])


def test_a_card_lies_where_it_is_said_to() -> None:
    magenta = np.full((8, 8, 4), (255, 0, 255, 255), np.uint8)
    album = [Card("flag", magenta)]
    drawn = [draw_example(rng(6, i), [], album) for i in range(40)]
    laid = [(one, i) for one in drawn for i, name in enumerate(one.names) if name == ("", "flag")]
    assert laid
    for example, i in laid:
        u, v = example.points[i]
        red, green, blue = example.picture[int(v * HEIGHT_PX), int(u * WIDTH_PX)].astype(int)
        assert min(red, blue) > green + 30


def test_emoji_come_from_an_unpacked_package(tmp_path: Path) -> None:
    (tmp_path / "img/google/64").mkdir(parents=True)
    Image.new("RGBA", (64, 64), (9, 9, 9, 255)).save(tmp_path / "img/google/64/a.png")
    row = {"category": "Objects", "has_img_google": True, "image": "a.png"}
    rows = [row | {"short_name": name} for name in ("anvil", "star", "two_words")]
    (tmp_path / "emoji.json").write_text(json.dumps(rows))
    assert [card.words for card in emoji_cards(tmp_path)] == ["anvil"], "star is a shape's word"
    with pytest.raises(ConfigError, match="--emoji must be the unpacked npm package"):
        emoji_cards(tmp_path / "nowhere")


# The words


def test_sentences_mention_in_order() -> None:
    names = [("red", "moon"), ("blue", "square"), ("red", "star"), ("", "cat")]
    for i in range(300):
        drawn = draw_sentence(rng(7, i), names, has_pole=True, two=True)
        words = drawn.text.split()
        if "cat" in words and drawn.first == (3,) and drawn.second != (3,):
            assert words.index("cat") < len(words) / 2 + 1
        if drawn.first == (0, 2):
            assert "red" in words
            assert "moon" not in words[: words.index("red") + 2]
        assert drawn.second


def test_every_word_of_a_sentence_is_in_the_vocabulary() -> None:
    vocabulary = Vocabulary(words_of_the_corpus())
    names = [(colour, shape) for colour in ("grey", "cyan") for shape in SHAPE_WORDS]
    texts = [draw_sentence(rng(8, i), names, has_pole=True).text for i in range(200)]
    assert int(vocabulary.encode(texts).max()) < len(vocabulary)
    for word in " ".join(texts).split():
        assert vocabulary.number(word) > NUM_UNKNOWN, word
    assert 1 <= vocabulary.number("zyzzyva") <= NUM_UNKNOWN


def test_the_grammar_of_the_tabletop_is_nearly_all_known() -> None:
    from nearer.envs.tabletop.language import vocabulary as tabletop_words

    known = set(words_of_the_corpus())
    assert set(tabletop_words()) - known <= {"your", "base", "towards", "robot's"}


def test_word_order_tells_first_from_second(tower: PointingTower) -> None:
    one, other = tower.queries([SENTENCE, "push the blue cube to the red moon"])
    assert torch.cosine_similarity(one[0], other[1], dim=0) > 0.9
    assert torch.cosine_similarity(one[1], other[0], dim=0) > 0.9
    assert torch.cosine_similarity(one[0], one[1], dim=0) < 0.5
    assert torch.equal(one[2], other[2]), "the effector is always asked for in the same way"


def test_padding_changes_nothing(tower: PointingTower) -> None:
    alone = tower.queries([SENTENCE])[0]
    beside = tower.queries([SENTENCE, SENTENCE + " and then have a good long rest"])[0]
    assert torch.allclose(alone, beside, atol=1e-5)


# The arithmetic


def test_the_peak_lies_between_cells() -> None:
    logits = torch.full((1, 1, 48, 64), -30.0)
    logits[0, 0, 10, 20] = logits[0, 0, 10, 21] = 0.0
    logits[0, 0, 40, 60] = -1e-3  # far away: not averaged in
    u, v, share = peaks(logits)[0, 0]
    assert u.item() == pytest.approx(21 / 64)
    assert v.item() == pytest.approx(10.5 / 48)
    assert share.item() == pytest.approx(2 / 3, abs=1e-3)


def test_the_pointing_loss_is_least_at_its_target() -> None:
    """With all weight on the four cells around the point, the loss is the target's entropy."""
    point = torch.tensor([0.5, 0.5]).expand(1, 1, 1, 1, 2)  # between four cells: a quarter each
    weights = torch.ones(1, 1, 1, 1)
    flat = torch.zeros(1, 1, 1, 4, 4)
    assert pointing_loss(flat, point, weights).item() == pytest.approx(np.log(16))
    sharp = flat - 50
    sharp[..., 1:3, 1:3] = 0
    assert pointing_loss(sharp, point, weights).item() == pytest.approx(np.log(4))
    assert pointing_loss(flat, point, 0 * weights).item() == 0, "nothing is asked"


def test_captions_match_their_own_pictures_best() -> None:
    queries = 8 * torch.eye(4)[:, None]
    keys = torch.eye(4)[:, :, None, None].expand(4, 4, 2, 2)
    sharpness = torch.tensor(1.0)
    own = matching_loss(keys, queries, sharpness)
    others = matching_loss(keys.roll(1, dims=0), queries, sharpness)
    assert own < 0.01 < 7 < others


def test_naming_is_a_choice_among_words() -> None:
    words, things = torch.eye(5), torch.eye(5)[[3, 1]]
    right = naming_loss(things, words, torch.tensor([3, 1]), torch.tensor(1.0))
    assert right.item() == pytest.approx(np.log(np.e + 4) - 1)


# The tower


def test_it_sees_fast_the_same_as_it_trains(tower: PointingTower) -> None:
    pictures = some_pictures(3)
    seen = tower.see(pictures, [SENTENCE] * 3)
    assert seen.shape == (3, 9)
    assert seen.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(seen, tower(pictures, [SENTENCE] * 3), atol=1e-4)
    alone = tower.see(pictures[1:2], [SENTENCE])
    assert torch.allclose(seen[1:2], alone, atol=2e-3), "neighbours in a batch change nothing"
    with torch.autocast("cpu", torch.bfloat16):
        coarse = tower.see(pictures, [SENTENCE] * 3)
    assert torch.allclose(coarse, seen, atol=1e-4), "autocast coarsens nothing"


def test_remembered_sentences_follow_the_weights() -> None:
    tower = load_pointing()
    pictures = some_pictures(1)
    before = tower.see(pictures, [SENTENCE])
    with torch.no_grad():
        tower.words.meaning.weight.mul_(-1)
    assert not torch.equal(before, tower.see(pictures, [SENTENCE]))


def test_only_the_trunk_is_frozen(tower: PointingTower) -> None:
    frozen = {n.split(".")[0] for n, p in tower.named_parameters() if not p.requires_grad}
    assert frozen == {"trunk"}
    pictures = some_pictures(2)
    fresh = load_pointing()
    fresh(pictures, [SENTENCE] * 2).square().sum().backward()
    assert fresh.eyes.first.conv.weight.grad is not None


def test_the_shipped_weights_point_right(tower: PointingTower) -> None:
    """On 60 new scenes of each kind; the numbers of 500 are in the weights' JSON."""
    measured = measure(tower, 60, seed=12)
    assert measured["wrong"] < 0.35
    assert measured["unseen_wrong"] < 0.4
    assert measured["named_px_median"] < 2.0
    assert measured["pole_px_median"] < 2.5


def test_weights_come_back_as_they_were_written(tower: PointingTower, tmp_path: Path) -> None:
    save_pointing(load_pointing(), tmp_path, {"seed": 3})
    again = load_pointing(tmp_path)
    pictures = some_pictures(2)
    assert torch.equal(tower.see(pictures, [SENTENCE] * 2), again.see(pictures, [SENTENCE] * 2))
    assert json.loads((tmp_path / "pointing.json").read_text())["seed"] == 3
    (tmp_path / "pointing.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="install nearer again"):
        load_pointing(tmp_path)


def test_folding_changes_no_answer() -> None:
    torch.manual_seed(0)
    tower = PointingTower(TowerConfig(), Vocabulary(["red"])).train()
    pictures = some_pictures(4)
    tower.keys(pictures, tower.maps(pictures))  # moves the running statistics
    tower.eval()
    before = tower.keys(pictures, tower.maps(pictures))
    tower.eyes.fold()
    assert torch.allclose(before, tower.keys(pictures, tower.maps(pictures)), atol=1e-4)
    assert not [one for one in tower.modules() if isinstance(one, torch.nn.BatchNorm2d)]


# Pretraining


def test_batches_ask_only_for_what_can_be_seen() -> None:
    batch = draw_batch([draw_example(rng(9, i)) for i in range(6)], 4, rng(9))
    assert len(batch.sentences) == 24
    totals = batch.weights.sum(dim=3)
    assert bool(((totals - 1).abs().lt(1e-5) | (totals == 0)).all())
    assert bool((batch.points >= 0).all())
    assert bool((batch.points <= 1).all())


def test_pretraining_learns_and_repeats_itself(tmp_path: Path) -> None:
    losses: list[float] = []

    def on_progress(progress: Progress) -> None:
        if "pointing" in progress.values:
            losses.append(float(progress.values["pointing"]))

    config = PretrainConfig(
        out=tmp_path / "one", pictures=24, updates=12, batch_size=8, measured=2, workers=1,
        imagenet=False, easy_vqa=False,
    )  # fmt: skip
    one = pretrain(config, on_progress)
    assert losses[-1] < losses[0]
    two = pretrain(replace(config, out=tmp_path / "two"), ignore_progress)
    names = ("pointing.safetensors", "pointing.json")
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert "unseen_wrong" in json.loads((one / names[1]).read_text())["measures"]
    further = replace(config, out=tmp_path / "further", start=one, updates=1, learning_rate=1e-6)
    three = pretrain(further, ignore_progress)
    assert json.loads((three / names[1]).read_text())["settings"]["start"]["updates"] == 12
    pictures = some_pictures(1)
    before, after = (load_pointing(path).see(pictures, [SENTENCE]) for path in (one, three))
    assert torch.allclose(before, after, atol=0.05), "it went on from there"
