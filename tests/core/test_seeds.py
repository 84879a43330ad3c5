"""Random numbers as a function of seed, purpose and index."""

from itertools import islice, product

from nearer.core.seeds import Purpose, episode_seed, episode_seeds, generator


def test_generator_of_the_same_keys_draws_the_same() -> None:
    first, again = (generator(Purpose.PRACTICE, 3, 7).random(5) for _ in range(2))
    assert first.tolist() == again.tolist()


def test_generator_of_another_purpose_or_key_draws_others() -> None:
    keys = list(product(Purpose, range(3), range(3)))
    assert len({generator(purpose, *key).random() for purpose, *key in keys}) == len(keys)


def test_episode_seed_of_a_start_never_changes() -> None:
    """Success rates are compared on these starts, also with those measured years ago."""
    seeds = [episode_seed(Purpose.EVALUATION, 0, index) for index in range(2)]
    assert seeds == [3286363997401750274, 3079713293349187188]


def test_episode_seeds_of_many_episodes_differ_and_have_62_bits() -> None:
    seeds = list(islice(episode_seeds(Purpose.PRACTICE, 0, 3), 1000))
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert max(seeds) > 2**61


def test_episode_seeds_are_those_of_indices_from_zero() -> None:
    expected = [episode_seed(Purpose.AUDIT, 4, 2, index) for index in range(5)]
    assert list(islice(episode_seeds(Purpose.AUDIT, 4, 2), 5)) == expected
