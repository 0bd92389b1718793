"""The three layouts hold the same stories."""

from dataclasses import replace

import pytest
import torch

from tti.benchmarking.sample import UNSCORED


def test_stories_are_evenly_spaced_in_length_and_padding_is_to_the_longest_of_the_whole_step(setting):
    order = setting.loader().sampler
    wholes = [sorted(int(order.lengths[story]) for story in order.step(step)) for step in range(200)]
    for sample in setting.samples:
        steps = [whole for whole in wholes if sum(whole) == sample.step_tokens and whole[-1] == longest(sample)]
        assert sorted(sample.batch.stories.lengths) in [[step[place] for place in (1, 3, 6, 8, 10)] for step in steps]
        assert len(sample.padded_tokens) == 5


def longest(sample):
    return sample.padded_tokens.shape[1]


def test_the_steps_pad_as_much_as_all_steps_together(setting):
    order = setting.loader().sampler
    lengths = [order.lengths[order.step(step)] for step in range(200)]
    average = sum(each.sum() for each in lengths) / sum(12 * each.max() for each in lengths)
    for sample in setting.samples:
        assert sample.step_tokens / (12 * longest(sample)) == pytest.approx(average, abs=0.01)


def test_the_padded_rows_score_the_flat_tokens_and_nothing_else(setting):
    for sample in setting.samples:
        scored = sample.padded_targets != UNSCORED
        assert torch.equal(sample.padded_tokens[scored], sample.batch.tokens)
        assert torch.equal(sample.padded_targets[scored], sample.batch.targets)
        assert sample.padding == pytest.approx(1 - len(sample.batch) / sample.padded_tokens.numel())


def test_packed_rows_are_the_stream_of_stories_with_their_ends_and_all_of_one_shape(setting):
    shapes = {sample.packed_tokens.shape for sample in setting.samples}
    assert len(shapes) == 1
    for sample in setting.samples:
        stream, place = [], 0
        for length in sample.batch.stories.lengths:
            stream += [
                *sample.batch.tokens[place : place + length].tolist(),
                int(sample.batch.targets[place + length - 1]),
            ]
            place += length
        positions = sample.packed_tokens.numel()
        assert sample.packed_tokens.flatten().tolist() == stream[:positions]
        assert sample.packed_targets.flatten().tolist() == stream[1 : positions + 1]
    fewest = min(len(sample.batch) for sample in setting.samples)
    assert fewest <= sample.packed_tokens.numel() + sample.packed_tokens.shape[0]
    assert sample.packed_tokens.shape[1] <= setting.data.max_length


def test_only_the_rows_of_a_batch_are_targets_in_any_layout(setting):
    tasks = setting.having("data=grammar_tasks", "data.corpus.train=1000", "data.corpus.validation=300")
    for sample in tasks.samples:
        batch = sample.batch
        assert 0 < len(batch) < len(batch.tokens)
        scored = sample.padded_targets != UNSCORED
        assert torch.equal(sample.padded_targets[scored], batch.targets)
        assert torch.equal(sample.padded_tokens[scored], batch.tokens[batch.scored])
        assert sample.padding == pytest.approx(1 - len(batch.tokens) / sample.padded_tokens.numel())
        packed = sample.packed_targets.flatten()
        there = packed[packed != UNSCORED]
        assert torch.equal(there, batch.targets[: len(there)])
        following = sample.packed_tokens.flatten()[1:]
        scored = packed[:-1] != UNSCORED
        assert torch.equal(packed[:-1][scored], following[scored])


def test_more_stories_than_a_step_has(setting):
    with pytest.raises(ValueError, match="stories=13, but a step has"):
        replace(setting, stories=13).samples  # noqa: B018
