"""How every command ends after an error that users can cause."""

import errno
import os
import signal

import pytest
from hydra.errors import ConfigCompositionException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tti.command import WAYS_OUT, errors_in_a_line, explained, handling


def test_no_space_left_is_found_however_deep():
    error = RuntimeError(
        "[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"
    )  # as PyTorch's writer raises it
    error.__context__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.ckpt")
    assert explained(error) == "no space left (last.ckpt). Free some and start again: the run resumes."


def test_no_space_left_is_found_where_a_library_has_words_for_it_only():
    error = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")  # safetensors
    assert explained(error) == "no space left (while writing). Free some and start again: the run resumes."


@pytest.mark.parametrize("number", WAYS_OUT)
def test_errors_of_the_system_name_the_file_and_the_way_out(number):
    message = explained(OSError(number, os.strerror(number), "runs/x/config.yaml"))
    assert message == f"runs/x/config.yaml: {os.strerror(number)}; {WAYS_OUT[number]}"


def test_what_hydra_wraps_is_said_in_its_own_words():
    error = InstantiationException("Error in call to target")
    error.__cause__ = ValueError("k=0 latents")
    assert explained(error) == "k=0 latents"


@pytest.mark.parametrize(
    "ours", [RuntimeError("shapes"), KeyError("x"), TypeError("x"), ZeroDivisionError("x"), OSError("x")]
)
def test_our_own_errors_keep_their_traceback(ours):
    assert explained(ours) is None
    with pytest.raises(type(ours)), errors_in_a_line():
        raise ours


def test_an_interruption_is_a_line_and_exit_130(capsys):
    with pytest.raises(SystemExit) as left, errors_in_a_line():
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err.count("\n") == 1


def interrupted_in_omegaconf():
    """OmegaConf's cleanup fails on a half-made object and raises its own error, from which Hydra raises another."""
    parent = OmegaConf.create({"a": 1})
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        parent._set_value(None)
        try:
            _ = parent.b.c
        except OmegaConfBaseException as error:
            raise ConfigCompositionException from error


def test_an_interruption_that_a_library_makes_an_error_of_is_one(capsys):
    with pytest.raises(SystemExit) as left, errors_in_a_line():
        interrupted_in_omegaconf()
    assert left.value.code == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_handler_of_a_signal_is_for_the_time_being():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), handling(signal.SIGTERM, signal.default_int_handler):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_is_a_line_and_exit_1(capsys):
    with pytest.raises(SystemExit) as left, errors_in_a_line():
        raise ValueError("k=0")
    assert (left.value.code, capsys.readouterr().err) == (1, "error: k=0\n")


def test_a_key_that_is_not_there_is_answered_with_those_that_are():
    config = OmegaConf.create({"trainer": {"max_steps": 3}})
    OmegaConf.set_struct(config, True)
    with pytest.raises(AttributeError) as raised:
        _ = config.trainer.max_stepz
    assert "max_stepz" in (explained(raised.value) or "")
