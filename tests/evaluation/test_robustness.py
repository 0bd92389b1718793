"""Robustness: edits do what they say, and figures of networks with known answers are right."""

from itertools import product

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from tests.evaluation.planted import made, run
from tti.data.grammar import StoryGrammar
from tti.evaluation.base import Subject
from tti.evaluation.edits import Drops, Gradient, Random, Senses, Typos, edited, misspelt
from tti.evaluation.stories import StorySet
from tti.models.network import Network, Site
from tti.models.taps import no_tap

GRAMMAR = {"synonym", "other_sense", "drop", "gradient", "random", "other_story"}
TEXT = {"typo", "drop", "gradient", "random", "other_story"}


class Sum(Network):
    """The hidden state is the sum of embeddings over the story so far, or constant; its loss is linear in it."""

    context = 512
    vocab_size = operations_per_token = 0

    def __init__(self, vocab_size, reads=True):
        super().__init__()
        self.reads = reads
        draw = torch.Generator().manual_seed(0)
        self.embed = nn.Embedding(vocab_size, 3)
        nn.init.normal_(self.embed.weight, generator=draw)
        self.head, self.along = torch.randn(3, vocab_size, generator=draw), torch.randn(3, generator=draw)
        self.sites = {"embed": Site(3)}

    def forward(self, tokens, stories, tap=no_tap):
        x = tap("embed", self.embed(tokens))
        read = torch.cat([story.cumsum(0) for story in x.split(stories.lengths)])
        return read if self.reads else read * 0 + 1

    def logits(self, hidden):
        return hidden @ self.head

    def loss(self, hidden, targets):
        nll = hidden @ self.along
        return nll.mean(), nll.detach()


@pytest.fixture(scope="session")
def text_stories(compose, tmp_path_factory):
    """Stories of the grammar as text, under a tokenizer that splits words."""
    grammar, folder = StoryGrammar(), tmp_path_factory.mktemp("text")
    words = grammar.tokenizer()
    for split, seed in (("train", 0), ("validation", 1)):
        texts = [words.decode(grammar.story(index, seed).tokens.tolist()) for index in range(40)]
        (folder / f"{split}.txt").write_text("".join(f"{text}<|endoftext|>\n" for text in texts))
    corpus = [f"data.corpus.{split}={folder}/{split}.txt" for split in ("train", "validation")]
    data = compose("model=tiny", "data=tinystories", *corpus, "data.corpus.tokenizer=bpe:400").data
    return StorySet(instantiate(data), "validation", 2000)


def edits_of(edit, net, stories):
    """The stories of the first chunk before and after an edit."""
    edit.attach(Subject("trained", net, stories))
    chunk = next(iter(stories))
    return [tokens.numpy() for tokens in chunk.batch.tokens.split(chunk.batch.stories.lengths)], edit(chunk)


def size(stories):
    return stories.packed.manifest["vocab_size"]


# -- what is compared


def test_targets_are_compared_if_they_are_left_and_what_precedes_them_is_not():
    story = np.array([5, 6, 7, 8])
    replaced = edited(np.array([5, 9, 7, 8]), np.array([0, -1, 2, 3]), 4, 100)
    assert (replaced.before.tolist(), replaced.after.tolist(), replaced.changed) == ([1, 2, 3], [1, 2, 3], 1)
    dropped = edited(np.array([5, 7, 8]), np.array([0, 2, 3]), 4, 100)
    assert (dropped.before.tolist(), dropped.after.tolist(), dropped.changed) == ([1, 2, 3], [0, 1, 2], 1)
    longer = edited(np.array([5, 1, 2, 7, 8]), np.array([0, -1, -1, 2, 3]), 4, 100)
    assert (longer.before.tolist(), longer.after.tolist()) == ([1, 2, 3], [2, 3, 4])
    cut = edited(np.array([5, 1, 2, 7, 8]), np.array([0, -1, -1, 2, 3]), 4, 3)
    assert (cut.tokens.tolist(), cut.before.tolist(), cut.after.tolist()) == ([5, 1, 2], [1], [2])
    nothing = edited(story, np.arange(4), 4, 100)
    assert (nothing.before.tolist(), nothing.changed) == ([0, 1, 2, 3], 0)


# -- known answers of the part


def test_a_network_that_ignores_its_context_is_robust_to_everything(config, few_stories):
    found = run(made(config, "robustness"), Sum(size(few_stories), reads=False), few_stories).metrics
    for figure, edit in product(("increase", "changed", "kl"), GRAMMAR):
        assert found[f"{figure}/{edit}"] == 0
    assert np.isnan(found["relative/drop"])  # it predicts no better than the frequencies of tokens


def test_a_rate_of_0_changes_nothing_to_the_last_digit(config, make_net, few_stories):
    net = make_net(vocab_size=size(few_stories), context=256)
    part = made(config, "robustness", edits={"synonym": {"rate": 0}, "other_sense": {"rate": 0}, "drop": {"rate": 0}})
    found = run(part, net, few_stories).metrics
    for edit in ("synonym", "other_sense", "drop"):
        assert found[f"increase/{edit}"] == found[f"kl/{edit}"] == found[f"edits/{edit}"] == 0
        assert found[f"clean/{edit}"] == found[f"edited/{edit}"]
    loss = run(made(config, "performance", resamples=10), net, few_stories).metrics["loss"]
    assert found["clean/drop"] == pytest.approx(loss, abs=1e-5)


def test_figures_are_those_of_the_sums(config, few_stories):
    """Against a second computation, in double precision, of one edit of a network that reads everything."""
    net = Sum(size(few_stories))
    part = made(config, "robustness", tokens=300)
    found = run(part, net, few_stories).metrics
    assert set(found) == {"tokens"} | {
        f"{figure}/{edit}"
        for figure in ("clean", "edited", "increase", "relative", "changed", "kl", "edits")
        for edit in GRAMMAR
    }
    chunks = few_stories.subset(300)
    logs, tops, after = [], [], []
    for chunk in chunks:
        for story, places in zip(chunk.stories, chunk.places.split(chunk.batch.stories.lengths), strict=True):
            packed, n = few_stories.packed, len(places)
            begin, end = packed.offsets[(story + 1) % len(packed)], packed.offsets[(story + 1) % len(packed) + 1] - 1
            both = packed.tokens[places], np.resize(packed.tokens[begin:end], n)
            weight = net.embed.weight.double()
            p = [(weight[read.astype(int)].cumsum(0) @ net.head.double()).log_softmax(-1) for read in both]
            targets = torch.from_numpy(packed.tokens[places + 1].astype(int))[:, None]
            logs.append(torch.cat([-each.gather(1, targets) for each in p], 1))
            tops.append(p[0].argmax(1) != p[1].argmax(1))
            after.append((p[0].exp() * (p[0] - p[1])).sum(1))
    clean, other = torch.cat(logs).mean(0).tolist()
    assert found["clean/other_story"] == pytest.approx(clean, rel=1e-5)
    assert found["increase/other_story"] == pytest.approx(other - clean, rel=1e-4)
    assert found["changed/other_story"] == pytest.approx(float(torch.cat(tops).double().mean()), abs=0.01)
    assert found["kl/other_story"] == pytest.approx(torch.cat(after).mean().item(), rel=1e-4)


def test_edits_that_do_not_apply_are_left_out_with_a_reason(config, make_net, few_stories, text_stories):
    for stories, applied in ((few_stories, GRAMMAR), (text_stories, TEXT)):
        net = make_net(vocab_size=size(stories), context=512)
        result = run(made(config, "robustness", tokens=500), net, stories)
        assert {name.partition("/")[2] for name in result.metrics} - {""} == applied
        assert result.notes.keys() == (GRAMMAR | TEXT) - applied
        assert all(np.isfinite(result.metrics[f"increase/{edit}"]) for edit in applied)


def test_tasks_and_autoencoders_are_left_out(config, compose, make_net, few_stories):
    part = made(config, "robustness")
    sizes = ("data.corpus.train=40", "data.corpus.validation=20", "data.corpus.test=10")
    tasks = StorySet(instantiate(compose("model=tiny", "data=grammar_tasks", *sizes).data), "validation", 500)
    assert "data.scored" in part.inapplicable(Subject("trained", make_net(), tasks))
    assert "sentence" in part.inapplicable(Subject("trained", make_net("model=autoencoder"), few_stories))


# -- words of the grammar


@pytest.mark.parametrize("same", [True, False])
def test_synonyms_leave_every_factor_as_it_is_and_other_senses_do_not(few_stories, same):
    """The ideal reader of the grammar says so, of the story as a whole."""
    grammar = few_stories.truth
    stories, found = edits_of(Senses(same, 1.0), Sum(size(few_stories)), few_stories)
    reader, kept = grammar.reader(), []
    for story, after in zip(stories, found, strict=True):
        assert after.changed > 2
        try:
            ends = [
                {name: belief[-1].argmax() for name, belief in grammar.beliefs(reader.read(tokens.tolist())).items()}
                for tokens in (story, after.tokens)
            ]
        except ValueError:  # the grammar cannot say this
            kept.append(False)
        else:
            kept.append(ends[0] == ends[1])
    assert all(kept) if same else not any(kept)


def test_both_change_the_same_words_and_another_sense_is_never_the_first_one_too(few_stories):
    net, grammar = Sum(size(few_stories)), few_stories.truth
    stories, ours = edits_of(Senses(True, 0.5), net, few_stories)
    _, theirs = edits_of(Senses(False, 0.5), net, few_stories)
    column = list(grammar.factors).index("sense")
    chunk = next(iter(few_stories))
    labels = grammar.labels(few_stories.packed)[chunk.places.numpy()][:, column]
    words = few_stories.packed.tokenizer()
    parts = np.split(labels, np.cumsum([len(story) for story in stories])[:-1])
    for story, senses, one, other in zip(stories, parts, ours, theirs, strict=True):
        at = np.flatnonzero(one.tokens != story)
        assert at.tolist() == np.flatnonzero(other.tokens != story).tolist()
        for place in at:
            known = grammar.synonyms[grammar.factors["sense"][senses[place]]]
            assert " " + words.decode([one.tokens[place]]).strip() in known
            assert " " + words.decode([other.tokens[place]]).strip() not in known


# -- words of any text


def test_a_typo_changes_its_word_alone_and_the_text_is_encoded_as_it_would_be_anew(text_stories):
    words = text_stories.packed.tokenizer()
    stories, found = edits_of(Typos(0.3), Sum(size(text_stories)), text_stories)
    for story, after in zip(stories, found, strict=True):
        before, now = words.decode(story.tolist()), words.decode(after.tokens.tolist())
        assert words.encode(now).ids == after.tokens.tolist()
        differing = [(a, b) for a, b in zip(before.split(" "), now.split(" "), strict=True) if a != b]
        assert 0.05 < len(differing) / len(before.split(" ")) < 0.5
        for one, other in differing:
            assert len(other) in (len(one), len(one) - 1)
            assert sorted(one) == sorted(other) or set(other) <= set(one)
        assert (story[after.before[1:]] != 0).all()
        assert (after.before[1:] > after.before[:-1]).all()


@pytest.mark.parametrize("word", [" dog", "tree", "eel"])
def test_a_typo_is_a_swap_or_a_missing_letter_and_never_nothing(word):
    letters = word.strip()
    missing = {letters[:i] + letters[i + 1 :] for i in range(len(letters) - 1)}
    pairs = range(len(letters) - 1)
    swapped = {letters[:i] + letters[i + 1] + letters[i] + letters[i + 2 :] for i in pairs} - {letters}
    found = {misspelt(word, np.random.default_rng(seed)) for seed in range(200)}
    assert {each.strip() for each in found} == missing | swapped
    assert all(each.startswith(" ") == word.startswith(" ") for each in found)


@pytest.mark.parametrize("of", ["few_stories", "text_stories"])
def test_a_dropped_word_is_gone_whole(of, request):
    stories_ = request.getfixturevalue(of)
    words = stories_.packed.tokenizer()
    stories, found = edits_of(Drops(0.3), Sum(size(stories_)), stories_)
    for story, after in zip(stories, found, strict=True):
        before, now = (words.decode(tokens.tolist()) for tokens in (story, after.tokens))
        kept = iter(before.replace('"', " ").replace(".", " .").replace(",", " ,").split())
        assert all(word in kept for word in now.replace('"', " ").replace(".", " .").replace(",", " ,").split())
        assert len(now) < len(before)
        assert now.split()[0] == before.split()[0]


# -- tokens of any story


def test_the_gradient_finds_the_best_flip_of_a_linear_network(few_stories):
    """Against the loss of every story that differs in one token."""
    net = Sum(size(few_stories))
    stories, found = edits_of(Gradient(1), net, few_stories)
    candidates = few_stories.types[few_stories.types != size(few_stories) - 1]
    value = (net.embed.weight @ net.along).detach().double().numpy()
    for story, after in zip(stories, found, strict=True):
        flips = np.tile(story, (len(story), len(candidates), 1))
        for place in range(len(story)):
            flips[place, :, place] = candidates
        losses = value[flips].cumsum(2).sum(2)
        best = flips.reshape(-1, len(story))[losses.argmax()]
        assert after.tokens.tolist() == best.tolist()
        assert after.before.tolist() == list(range(int(np.flatnonzero(best != story)[0]), len(story)))


def test_flips_raise_the_loss_of_a_trained_network_more_than_random_ones_do(config, make_net, few_stories):
    torch.manual_seed(0)
    net = make_net(vocab_size=size(few_stories), context=256)
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(15):
        for chunk in few_stories:
            loss, _ = net.loss(net(chunk.batch.tokens, chunk.batch.stories), chunk.batch.targets)
            adam.zero_grad()
            loss.backward()
            adam.step()
    found = run(made(config, "robustness"), net, few_stories).metrics
    assert found["increase/gradient"] > found["increase/random"] > 0
    assert found["increase/other_story"] > found["increase/gradient"]
    assert found["increase/synonym"] < found["increase/other_sense"]
    assert 0 < found["relative/drop"] < 1


def test_as_many_random_tokens_are_replaced_and_the_end_of_text_is_none_of_them(few_stories):
    net = Sum(size(few_stories))
    for edit in (Gradient(3), Random(3)):
        stories, found = edits_of(edit, net, few_stories)
        assert [each.changed for each in found] == [3] * len(stories)
        assert all((each.tokens != size(few_stories) - 1).all() for each in found)
