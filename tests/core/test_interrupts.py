"""Signals that ask running work to stop."""

import signal

import pytest

from frugalclip.core.interrupts import ignore_termination, stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_to_stop_and_its_handler_is_put_back(number: signal.Signals):
    before = signal.getsignal(number)
    with stop_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)  # a closing terminal sends several
    assert signal.getsignal(number) == before


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_that_ends_by_itself_is_not_ended_before_its_sentence():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with stop_signals():
            ignore_termination()
        signal.raise_signal(signal.SIGTERM)  # would end the suite
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
