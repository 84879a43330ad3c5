"""The built-in vision encoder: its pretraining scenes, its words, and its accuracy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from nearer.core.callbacks import Progress, ignore_progress
from nearer.core.errors import CheckpointError, ConfigError
from nearer.models.pointing.frame_training import trainable_parameters
from nearer.models.pointing.losses import matching_loss, naming_loss, pointing_loss
from nearer.models.pointing.pretraining.captions import draw_sentence, words_of_the_corpus
from nearer.models.pointing.pretraining.corpus import draw_batch, draw_example, mirrored
from nearer.models.pointing.pretraining.flat_images import FlatImage, emoji_images
from nearer.models.pointing.pretraining.measure import measure
from nearer.models.pointing.pretraining.outlines import OUTLINES
from nearer.models.pointing.pretraining.renderer import render
from nearer.models.pointing.pretraining.scene import HEIGHT_PX, WIDTH_PX, draw_scene
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.pretraining.train import pretrain
from nearer.models.pointing.sentence_encoder import NUM_UNKNOWN, Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig, peaks
from nearer.models.pointing.vocabulary import HELD_OUT, SHAPE_WORDS
from nearer.models.pointing.weights import LITE0, UNET, load_pointing, save_pointing

SENTENCE = "push the red moon to the blue cube"


@pytest.fixture(scope="module")
def tower() -> PointingTower:
    return load_pointing(LITE0)


def rng(*keys: int) -> np.random.Generator:
    return np.random.default_rng([31, *keys])


def scene_images(num: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([draw_example(rng(i)).image for i in range(num)]))


# Scenes


def test_camera_ground_of_projected_points_is_where_they_were() -> None:
    camera = draw_scene(rng(0)).camera
    ground = np.array([[0.0, 0.0], [0.1, -0.05]])
    raised = np.concatenate([ground, np.zeros((2, 1))], axis=1)
    assert np.allclose(camera.ground(camera.project(raised)), ground)
    higher = camera.project(np.array([[0.0, 0.0, 0.05]]))
    assert higher[0, 1] < camera.project(raised)[0, 1], "up in space must be up in the image"


def test_draw_example_labels_an_object_where_its_colour_is() -> None:
    """At a single object's labelled point the channel of its colour is the highest."""
    channels = {"red": 0, "green": 1, "blue": 2}
    visible = correct = 0
    names = [(colour, "square") for colour in channels] * 10
    for i, name in enumerate(names):
        example = draw_example(rng(1, i), [name])
        if not example.names:  # occluded by the pole
            continue
        u, v = example.points[0]
        pixel = example.image[int(v * HEIGHT_PX), int(u * WIDTH_PX)].astype(int)
        visible += 1
        correct += int(pixel.argmax() == channels[name[0]])
    assert visible >= 20
    assert correct >= 0.9 * visible


def test_render_of_occluded_objects_returns_their_visible_fraction() -> None:
    visible = [render(draw_scene(rng(2, i)), rng(2, i)).visible for i in range(40)]
    every = np.concatenate(visible)
    assert (every <= 1).all()
    assert (every > 0.99).any()
    assert (every < 0.6).any()


def test_draw_example_of_one_seed_is_the_same() -> None:
    first, same, other = (draw_example(rng(3, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first.image, same.image)
    assert first.names == same.names
    assert not np.array_equal(first.image, other.image)


def test_draw_example_without_names_shows_no_held_out_pair() -> None:
    object_names = {name for i in range(60) for name in draw_example(rng(4, i)).names}
    assert not object_names & HELD_OUT
    assert len(object_names) > 60
    assert {shape for _, shape in HELD_OUT} <= set(OUTLINES) == set(SHAPE_WORDS)


def test_mirrored_example_has_mirrored_pixels_and_points() -> None:
    example = draw_example(rng(5))
    turned = mirrored(example)
    assert np.array_equal(turned.image[:, ::-1], example.image)
    assert np.allclose(turned.points[:, 0] + example.points[:, 0], 1)
    assert np.allclose(
        turned.regions[1, 0] + example.regions[1, 2], [1, 2 * example.regions[1, 2, 1]]
    )


def test_draw_example_labels_a_flat_image_where_it_lies() -> None:
    magenta = np.full((8, 8, 4), (255, 0, 255, 255), np.uint8)
    album = [FlatImage("flag", magenta)]
    examples = [draw_example(rng(6, i), [], album) for i in range(40)]
    flags = [
        (example, i)
        for example in examples
        for i, name in enumerate(example.names)
        if name == ("", "flag")
    ]
    assert flags
    for example, i in flags:
        u, v = example.points[i]
        red, green, blue = example.image[int(v * HEIGHT_PX), int(u * WIDTH_PX)].astype(int)
        assert min(red, blue) > green + 30


def test_emoji_images_of_the_unpacked_package_have_unambiguous_names(tmp_path: Path) -> None:
    (tmp_path / "img/google/64").mkdir(parents=True)
    Image.new("RGBA", (64, 64), (9, 9, 9, 255)).save(tmp_path / "img/google/64/a.png")
    row = {"category": "Objects", "has_img_google": True, "image": "a.png"}
    rows = [row | {"short_name": name} for name in ("anvil", "star", "two_words")]
    (tmp_path / "emoji.json").write_text(json.dumps(rows))
    assert [emoji.words for emoji in emoji_images(tmp_path)] == ["anvil"], "star is a shape's word"
    with pytest.raises(ConfigError, match="--emoji must be the unpacked npm package"):
        emoji_images(tmp_path / "nowhere")


# Sentences


def test_draw_sentence_mentions_its_first_object_first() -> None:
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


def test_vocabulary_of_the_corpus_has_every_word_of_its_sentences() -> None:
    vocabulary = Vocabulary(words_of_the_corpus())
    names = [(colour, shape) for colour in ("grey", "cyan") for shape in SHAPE_WORDS]
    texts = [draw_sentence(rng(8, i), names, has_pole=True).text for i in range(200)]
    assert int(vocabulary.encode(texts).max()) < len(vocabulary)
    for word in " ".join(texts).split():
        assert vocabulary.number(word) > NUM_UNKNOWN, word
    assert 1 <= vocabulary.number("zyzzyva") <= NUM_UNKNOWN


def test_vocabulary_of_the_corpus_has_nearly_all_words_of_the_tabletop() -> None:
    from nearer.envs.tabletop.language import vocabulary as tabletop_words

    unknown = set(tabletop_words()) - set(words_of_the_corpus())
    assert unknown <= {"your", "base", "towards", "robot's"}


def test_queries_of_swapped_objects_are_swapped(tower: PointingTower) -> None:
    queries, swapped = tower.queries([SENTENCE, "push the blue cube to the red moon"])
    assert torch.cosine_similarity(queries[0], swapped[1], dim=0) > 0.9
    assert torch.cosine_similarity(queries[1], swapped[0], dim=0) > 0.9
    assert torch.cosine_similarity(queries[0], queries[1], dim=0) < 0.5
    assert torch.equal(queries[2], swapped[2]), "the effector's query depends on no sentence"


def test_queries_of_a_padded_sentence_equal_those_without_padding(tower: PointingTower) -> None:
    alone = tower.queries([SENTENCE])[0]
    beside = tower.queries([SENTENCE, SENTENCE + " and then have a good long rest"])[0]
    assert torch.allclose(alone, beside, atol=1e-5)


# Peaks and losses


def test_peaks_of_two_equal_neighbours_lie_between_them() -> None:
    logits = torch.full((1, 1, 48, 64), -30.0)
    logits[0, 0, 10, 20] = logits[0, 0, 10, 21] = 0.0
    logits[0, 0, 40, 60] = -1e-3  # outside the window
    u, v, probability = peaks(logits)[0, 0]
    assert u.item() == pytest.approx(21 / 64)
    assert v.item() == pytest.approx(10.5 / 48)
    assert probability.item() == pytest.approx(2 / 3, abs=1e-3)


def test_pointing_loss_of_the_target_distribution_is_its_entropy() -> None:
    """A point between four cells has a quarter in each: log 4; a uniform softmax has log 16."""
    point = torch.tensor([0.5, 0.5]).expand(1, 1, 1, 1, 2)  # between four cells: a quarter each
    weights = torch.ones(1, 1, 1, 1)
    flat = torch.zeros(1, 1, 1, 4, 4)
    assert pointing_loss(flat, point, weights).item() == pytest.approx(np.log(16))
    sharp = flat - 50
    sharp[..., 1:3, 1:3] = 0
    assert pointing_loss(sharp, point, weights).item() == pytest.approx(np.log(4))
    assert pointing_loss(flat, point, 0 * weights).item() == 0, "no target"


def test_matching_loss_of_own_images_is_less_than_of_others() -> None:
    queries = 8 * torch.eye(4)[:, None]
    keys = torch.eye(4)[:, :, None, None].expand(4, 4, 2, 2)
    sharpness = torch.tensor(1.0)
    own = matching_loss(keys, queries, sharpness)
    others = matching_loss(keys.roll(1, dims=0), queries, sharpness)
    assert own < 0.01 < 7 < others


def test_naming_loss_of_matching_keys_is_the_cross_entropy_among_words() -> None:
    words, keys = torch.eye(5), torch.eye(5)[[3, 1]]
    loss = naming_loss(keys, words, torch.tensor([3, 1]), torch.tensor(1.0))
    assert loss.item() == pytest.approx(np.log(np.e + 4) - 1)


# The tower


def test_locate_equals_the_forward_pass_that_is_trained(tower: PointingTower) -> None:
    images = scene_images(3)
    points = tower.locate(images, [SENTENCE] * 3)
    assert points.shape == (3, 9)
    assert points.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(points, tower(images, [SENTENCE] * 3), atol=1e-4)
    alone = tower.locate(images[1:2], [SENTENCE])
    assert torch.allclose(points[1:2], alone, atol=2e-3), "other rows must not matter"
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = tower.locate(images, [SENTENCE] * 3)
    assert torch.allclose(under_autocast, points, atol=1e-4)


def test_cached_queries_of_changed_weights_are_computed_anew() -> None:
    tower = load_pointing(LITE0)
    images = scene_images(1)
    before = tower.locate(images, [SENTENCE])
    with torch.no_grad():
        tower.words.meaning.weight.mul_(-1)
    assert not torch.equal(before, tower.locate(images, [SENTENCE]))


@pytest.mark.parametrize("weights", [UNET, LITE0], ids=["unet", "lite0"])
def test_tower_forward_has_gradients_for_all_but_a_trunk_of_imagenets(weights: Path) -> None:
    fresh = load_pointing(weights)
    fresh(scene_images(2), [SENTENCE] * 2).square().sum().backward()
    without = [name for name, weight in fresh.named_parameters() if weight.grad is None]
    assert all(name.startswith("network.trunk.") for name in without)
    assert len(trainable_parameters(fresh)) + len(without) + 1 == len(list(fresh.parameters()))


@pytest.mark.parametrize(
    ("weights", "most_wrong", "most_px"), [(UNET, 0.6, 5.0), (LITE0, 0.35, 2.0)]
)
def test_load_pointing_shipped_weights_locate_named_objects(
    weights: Path, most_wrong: float, most_px: float
) -> None:
    """On 60 new scenes of each kind; the numbers of 500 are in the weights' JSON."""
    measured = measure(load_pointing(weights), 60, seed=12)
    assert measured["wrong"] < most_wrong
    assert measured["unseen_wrong"] < most_wrong + 0.05
    assert measured["named_px_median"] < most_px
    assert measured["pole_px_median"] < 2.5


def test_save_pointing_tower_loads_with_the_same_points(
    tower: PointingTower, tmp_path: Path
) -> None:
    save_pointing(load_pointing(LITE0), tmp_path, {"seed": 3})
    loaded = load_pointing(tmp_path)
    images = scene_images(2)
    points = [each.locate(images, [SENTENCE] * 2) for each in (tower, loaded)]
    assert torch.equal(*points)
    assert json.loads((tmp_path / "pointing.json").read_text())["seed"] == 3
    (tmp_path / "pointing.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="install nearer again"):
        load_pointing(tmp_path)


@pytest.mark.parametrize("network", ["unet", "lite0"])
def test_fold_batch_norm_keeps_the_keys(network: Literal["unet", "lite0"]) -> None:
    torch.manual_seed(0)
    tower = PointingTower(TowerConfig(network=network), Vocabulary(["red"])).train()
    images = scene_images(4)
    tower.keys(images)  # updates the running statistics
    tower.eval()
    before = tower.keys(images)
    tower.fold_batch_norm()
    assert torch.allclose(before, tower.keys(images), atol=1e-4)
    assert not [module for module in tower.modules() if isinstance(module, torch.nn.BatchNorm2d)]


# Pretraining


def test_draw_batch_targets_lie_inside_the_image_and_sum_to_one() -> None:
    batch = draw_batch([draw_example(rng(9, i)) for i in range(6)], 4, rng(9))
    assert len(batch.sentences) == 24
    totals = batch.weights.sum(dim=3)
    assert bool(((totals - 1).abs().lt(1e-5) | (totals == 0)).all())
    assert bool((batch.points >= 0).all())
    assert bool((batch.points <= 1).all())


def test_pretrain_is_repeatable_and_continues_from_weights(tmp_path: Path) -> None:
    losses: list[float] = []

    def on_progress(progress: Progress) -> None:
        if "pointing" in progress.values:
            losses.append(float(progress.values["pointing"]))

    config = PretrainConfig(
        out=tmp_path / "first", images=24, updates=12, batch_size=8, measured=2, workers=1,
        easy_vqa=False,
    )  # fmt: skip
    first = pretrain(config, on_progress)
    assert losses[-1] < losses[0]
    second = pretrain(replace(config, out=tmp_path / "second"), ignore_progress)
    names = ("pointing.safetensors", "pointing.json")
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert "unseen_wrong" in json.loads((first / names[1]).read_text())["measures"]
    further = replace(config, out=tmp_path / "further", start=first, updates=1, learning_rate=1e-6)
    continued = pretrain(further, ignore_progress)
    assert json.loads((continued / names[1]).read_text())["settings"]["start"]["updates"] == 12
    images = scene_images(1)
    before, after = (load_pointing(path).locate(images, [SENTENCE]) for path in (first, continued))
    assert torch.allclose(before, after, atol=0.05), "it must go on from the first weights"
