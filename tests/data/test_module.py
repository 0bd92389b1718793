from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from tti.data import tokenizers
from tti.data.module import EvaluationOrder, StoryBatches, TrainingOrder, present_types

LENGTHS = np.random.default_rng(0).integers(1, 200, 50)


def order(lengths=LENGTHS, stories_per_step=12, steps=20, seed=0, **rest):
    return TrainingOrder(lengths, stories_per_step, steps, seed, **rest)


def drawn(portions):
    return [portion.stories.tolist() for portion in portions]


def test_every_story_is_drawn_once_an_epoch():
    stories = [story for step in range(25) for story in order().step(step)]
    for epoch in range(6):
        assert sorted(stories[50 * epoch : 50 * (epoch + 1)]) == list(range(50))


def test_epochs_have_orders_of_their_own():
    stories = [story for step in range(25) for story in order().step(step)]
    assert stories[:50] != stories[50:100]
    assert stories[:50] != list(range(50))


def test_the_order_depends_on_the_seed_only():
    assert drawn(order()) == drawn(order())
    assert drawn(order(seed=1)) != drawn(order())
    state = np.random.get_state()[1].tolist(), torch.get_rng_state()
    drawn(order())
    assert np.random.get_state()[1].tolist() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])


SPLITS = [(1, 1), (2, 1), (1, 3), (2, 2), (4, 3)]


@pytest.mark.parametrize(("world_size", "accumulated"), SPLITS)
def test_the_stories_of_a_step_do_not_depend_on_how_it_is_divided(world_size, accumulated):
    ranks = [list(order(world_size=world_size, accumulated=accumulated, rank=rank)) for rank in range(world_size)]
    for step in range(20):
        mine = slice(step * accumulated, (step + 1) * accumulated)
        portions = [portion for rank in ranks for portion in rank[mine]]
        assert len({len(portion.stories) for portion in portions}) == 1
        stories = [story for portion in portions for story in portion.stories]
        assert sorted(stories) == sorted(order().step(step))
        assert np.mean([portion.share for portion in portions]) == pytest.approx(1)


@given(
    split=st.sampled_from(SPLITS),
    seed=st.integers(0, 9),
    lengths=st.lists(st.integers(1, 300), min_size=12, max_size=30),
)
@settings(max_examples=20, deadline=None)
def test_shares_make_the_mean_of_micro_batches_the_mean_over_tokens(split, seed, lengths):
    world_size, accumulated = split
    lengths = np.array(lengths)
    nll = np.random.default_rng(seed).random(len(lengths)) * lengths  # per whole story
    step = order(lengths, seed=seed).step(0)
    ranks = [list(TrainingOrder(lengths, 12, 1, seed, 0, accumulated, world_size, rank)) for rank in range(world_size)]
    losses = [p.share * nll[p.stories].sum() / lengths[p.stories].sum() for rank in ranks for p in rank]
    assert np.mean(losses) == pytest.approx(nll[step].sum() / lengths[step].sum())


@pytest.mark.parametrize("first_step", [0, 1, 4, 7, 19, 20])
def test_a_resumed_order_goes_on_exactly(first_step):
    whole, rest = order(accumulated=2), order(accumulated=2, first_step=first_step)
    assert drawn(rest) == drawn(whole)[2 * first_step :]
    assert [p.share for p in rest] == [p.share for p in whole][2 * first_step :]
    assert len(rest) == len(whole) == 40


def test_fewer_stories_than_a_step_takes_is_an_error():
    with pytest.raises(ValueError, match="stories_per_step=12, but the training split has 11 stories"):
        order(lengths=LENGTHS[:11])


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    tokens=st.integers(1, 2000),
    world_size=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_evaluation_sees_every_story_once_whatever_the_number_of_processes(lengths, tokens, world_size):
    lengths = np.array(lengths)
    ranks = [EvaluationOrder(lengths, tokens, world_size, rank) for rank in range(world_size)]
    stories = [story for rank in ranks for portion in rank for story in portion.stories]
    assert sorted(stories) == list(range(len(lengths)))
    assert all(len(list(rank)) == len(rank) for rank in ranks)
    for portion in (portion for rank in ranks for portion in rank):
        assert len(portion.stories) > 0
        assert portion.share == 1
        assert lengths[portion.stories].sum() < tokens + lengths.max()


# -- batches ------------------------------------------------------------------------------------------------------


def attach(data, **trainer):
    data.trainer = SimpleNamespace(
        **{"world_size": 1, "accumulate_grad_batches": 1, "global_rank": 0, "max_steps": 10, "global_step": 0} | trainer
    )
    return data


def test_a_training_batch_holds_whole_stories_and_what_follows_each_token(grammar_data):
    packed = grammar_data.split("train")
    loader = attach(grammar_data).train_dataloader()
    for batch, stories in zip(loader, drawn(loader.sampler), strict=True):
        expected = [packed.tokens[packed.offsets[i] : packed.offsets[i + 1]].astype(np.int64) for i in stories]
        assert batch.tokens.tolist() == np.concatenate([story[:-1] for story in expected]).tolist()
        assert batch.targets.tolist() == np.concatenate([story[1:] for story in expected]).tolist()
        assert batch.stories.lengths == tuple(len(story) - 1 for story in expected)
        assert len(batch) == len(batch.tokens) == sum(batch.stories.lengths)
        assert batch.share == 1


def test_types_number_the_tokens_of_a_training_batch(grammar_data):
    batch = next(iter(attach(grammar_data).train_dataloader()))
    assert batch.types.unique().tolist() == list(range(batch.n_types))
    assert batch.n_types == len(batch.tokens.unique())
    assert torch.equal(batch.tokens.unique()[batch.types], batch.tokens)


def test_types_number_the_tokens_of_the_whole_set_in_evaluation(grammar_data):
    loader = grammar_data.evaluation_dataloader("validation")
    present, _ = present_types(grammar_data.split("validation"))
    batches = list(loader)
    assert len(batches) > 2
    for batch in batches:
        assert batch.n_types == len(present) == grammar_data.n_types("validation")
        assert np.array_equal(present[batch.types], batch.tokens)


def test_evaluation_sees_every_token_once(grammar_data):
    packed = grammar_data.split("validation")
    for world_size in (1, 2, 3):
        seen = Counter()
        for rank in range(world_size):
            attach(grammar_data, world_size=world_size, global_rank=rank)
            for batch in grammar_data.val_dataloader():
                seen.update(batch.targets.tolist())
        stories = [packed.tokens[a:b] for a, b in zip(packed.offsets, packed.offsets[1:], strict=False)]
        assert seen == Counter(np.concatenate([story[1:] for story in stories]).tolist())


def test_a_longer_story_is_cut_and_its_last_target_is_the_next_token(grammar_data):
    packed = grammar_data.split("train")
    grammar_data.max_length = 30
    loader = attach(grammar_data).train_dataloader()
    batch, stories = next(iter(loader)), drawn(loader.sampler)[0]
    assert set(batch.stories.lengths) == {30}
    for i, tokens, targets in zip(stories, batch.tokens.split(30), batch.targets.split(30), strict=True):
        start = packed.offsets[i]
        assert tokens.tolist() == packed.tokens[start : start + 30].tolist()
        assert targets.tolist() == packed.tokens[start + 1 : start + 31].tolist()


def test_shares_follow_the_cut_lengths(grammar_data):
    grammar_data.max_length = 30
    loader = attach(grammar_data, accumulate_grad_batches=3).train_dataloader()
    assert [batch.share for batch in loader] == [1.0] * 30


def test_target_bytes_are_those_of_the_text_that_is_predicted(grammar_data):
    tokenizer = grammar_data.tokenizer
    end = tokenizers.end_of_text(tokenizer)
    batch = next(iter(attach(grammar_data).train_dataloader()))
    targets = batch.targets.split(batch.stories.lengths)
    texts = [tokenizer.decode([t for t in story.tolist() if t != end]) for story in targets]
    assert batch.target_bytes == sum(len(text.encode()) for text in texts)
    assert all(story[-1] == end for story in targets)


def test_a_resumed_module_goes_on_where_the_checkpoint_stopped(grammar_data):
    whole = [batch.tokens.tolist() for batch in attach(grammar_data).train_dataloader()]
    state = attach(grammar_data, global_step=4).state_dict()
    grammar_data.load_state_dict(state)
    assert [batch.tokens.tolist() for batch in grammar_data.train_dataloader()] == whole[4:]


def test_a_step_that_cannot_be_divided_is_an_error(grammar_data):
    with pytest.raises(ValueError, match="stories_per_step=12 cannot be divided among 5 processes of 1 accumulated"):
        attach(grammar_data, world_size=5).train_dataloader()


def test_loader_processes_give_the_batches_of_the_training_process(grammar_data):
    own = [batch.tokens.tolist() for batch in attach(grammar_data, max_steps=3).train_dataloader()]
    grammar_data.num_workers = 1
    assert [batch.tokens.tolist() for batch in grammar_data.train_dataloader()] == own


def test_making_a_loader_draws_no_random_number(grammar_data):
    grammar_data.prepare_data()
    state = torch.get_rng_state()
    next(iter(attach(grammar_data).train_dataloader()))
    next(iter(grammar_data.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_cut_at_the_longest_length_is_said_once(grammar_data, caplog):
    grammar_data.max_length = 30
    caplog.set_level("INFO", "tti")
    for _ in range(2):
        grammar_data.prepare_data()
    lengths = grammar_data.split("train").lengths
    (said,) = [message for message in caplog.messages if message.startswith("train: ")]
    rest = (lengths - 30).clip(min=0)
    assert f"{(rest > 0).sum()} of 90 stories are longer than data.max_length=30" in said
    assert f"{rest.sum() / lengths.sum():.1%} of the tokens are not used" in said


def test_nothing_is_said_where_nothing_is_cut(grammar_data, caplog):
    caplog.set_level("INFO", "tti")
    grammar_data.prepare_data()
    assert not caplog.messages


def text_data(compose, tmp_path, **corpus):
    files = {"train": tmp_path / "train.txt", "validation": tmp_path / "valid.txt", "test": tmp_path / "test.txt"}
    for path in files.values():
        path.write_text("One.<|endoftext|>Two.<|endoftext|>", encoding="utf-8")
    given = {**files, "tokenizer": "bpe:260", "cache_dir": tmp_path / "caches", **corpus}
    overrides = [f"data.corpus.{key}={value}" for key, value in given.items()]
    return instantiate(compose("model=tiny", "data=tinystories", *overrides).data)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_missing_file_of_any_split_is_known_before_any_cache_is_built(compose, tmp_path, split):
    data = text_data(compose, tmp_path, **{split: tmp_path / "nope.txt"})
    with pytest.raises(ValueError, match=r"no such file: .*nope\.txt"):
        data.prepare_data()
    assert not (tmp_path / "caches").exists()


def test_splits_of_different_tokenizers_are_an_error(compose, tmp_path):
    data = text_data(compose, tmp_path)
    data.prepare_data()
    data.splits["validation"].manifest["tokenizer_sha256"] = "another"
    with pytest.raises(ValueError, match="made with different tokenizers"):
        data.prepare_data()


def test_n_gram_losses_are_of_what_was_seen_and_of_the_whole_split(grammar_data):
    data = grammar_data
    steps = -(-len(data.split("train")) // data.stories_per_step)
    some, every = data.ngram_losses("validation", 1), data.ngram_losses("validation", steps)
    assert len(every["split"]) == 5
    assert every["seen"] == pytest.approx(every["split"])  # after an epoch all stories have been seen
    assert data.ngram_losses("validation", 3 * steps)["seen"] == pytest.approx(
        every["split"]
    )  # and each counts once only
    assert some["split"] == every["split"]  # from the cache of the split
    assert min(some["seen"]) > min(every["split"])  # fewer stories give higher losses


def test_answers_that_are_cut_are_an_error(compose, monkeypatch):
    """Each story has three tokens in the loss, and the last of some is beyond the maximum length."""
    data = instantiate(compose("model=tiny", "data=grammar", "data.corpus.train=20", "data.corpus.validation=20").data)
    packed = data.split("validation")
    scored = np.zeros(len(packed.tokens), np.uint8)
    lengths = packed.lengths
    for start, length in zip(packed.offsets, lengths, strict=False):
        scored[start + length - 3 : start + length] = 1
    monkeypatch.setattr(type(packed), "extra", lambda self, name: scored)
    batches = StoryBatches(packed, int(lengths.max()), data.layout, scored="answer")
    assert batches.rows.tolist() == [3] * 20
    cut = int((lengths == lengths.max()).sum())
    with pytest.raises(ValueError, match=rf"{cut} of 20 stories .* such as answers, beyond their first"):
        StoryBatches(packed, int(lengths.max()) - 1, data.layout, scored="answer")


@pytest.mark.parametrize(("known", "fits"), [(0, True), (3, True), (2, False)])
def test_groups_without_experts_are_an_error(compose, known, fits):
    sizes = [f"data.corpus.{split}=30" for split in ("train", "validation", "test")]
    data = instantiate(compose("model=tiny", "data=grammar_tasks", *sizes).data)
    if fits:
        data.require_groups(known)
    else:
        with pytest.raises(ValueError, match=r"data.group=task has values up to 2 in train, .*router\.groups=3"):
            data.require_groups(known)
