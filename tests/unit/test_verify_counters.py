"""The counters of the nodes' firewall."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from verify.counters import Firewall
from verify.errors import VerifyError


def _printing(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"print({text!r})")


def test_only_what_is_asked_for_and_exists_is_told(tmp_path: Path) -> None:
    file = tmp_path / "counters.json"
    file.write_text('{"deny": 1, "egress-a": 5, "other": 7}')
    firewall = Firewall(("cat", str(file)))
    with firewall.counting("deny", "egress-a", "egress-b") as rises:
        file.write_text('{"deny": 4, "egress-a": 5, "other": 9}')
    assert rises.by_rule == {"deny": 3, "egress-a": 0}
    assert rises.total == 3
    assert str(rises) == "counter deny rose by 3, counter egress-a rose by 0"


def test_a_counter_that_appears_meanwhile_began_at_nothing(tmp_path: Path) -> None:
    file = tmp_path / "counters.json"
    file.write_text("{}")
    firewall = Firewall(("cat", str(file)))
    with firewall.counting("egress-a") as rises:
        file.write_text('{"egress-a": 2}')
    assert rises.total == 2


@pytest.mark.parametrize(
    ("printed", "counted"), [('{"deny": 1}', False), ('{"egress-a": 1}', True), ('{"ingress-a": 0}', True)]
)
def test_whether_network_policies_are_counted_follows_from_the_names(printed: str, counted: bool) -> None:
    assert Firewall(_printing(printed)).counts_policies is counted


def test_without_a_command_nothing_is_counted() -> None:
    firewall = Firewall()
    assert (firewall.counts, firewall.counts_policies) == (False, False)
    with firewall.counting("deny") as rises:
        pass
    assert rises.by_rule == {}


@pytest.mark.parametrize("printed", ["", "no such lab", "[1]", '{"deny": "many"}', '{"deny": null}'])
def test_what_is_no_json_object_of_numbers_is_an_error(printed: str) -> None:
    with pytest.raises(VerifyError, match=r"verify\.firewallCounters.*printed no JSON object of numbers"):
        _ = Firewall(_printing(printed)).counts_policies


def test_blocks_on_the_same_counter_wait_for_each_other() -> None:
    firewall = Firewall(_printing('{"deny": 1, "other": 1}'))
    inside, others = threading.Event(), threading.Event()

    def second() -> None:
        with firewall.counting("deny"):
            inside.set()

    def third() -> None:
        with firewall.counting("other"):
            others.set()

    with firewall.counting("deny"):
        threads = [threading.Thread(target=work) for work in (second, third)]
        for thread in threads:
            thread.start()
        assert others.wait(10)
        assert not inside.is_set()
    for thread in threads:
        thread.join(10)
    assert inside.is_set()


def test_readings_are_shared_but_never_older_than_the_question() -> None:
    """Four ask while one reading is under way: one more reading answers all of them."""

    class Slow(Firewall):
        readings = 0
        go = threading.Event()

        def _printed(self) -> dict[str, int]:
            self.readings += 1
            if self.readings == 1:
                assert self.go.wait(10)
            return {"readings": self.readings}

    firewall = Slow(("counters",))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(firewall._read()["readings"])) for _ in range(5)]
    threads[0].start()
    while not firewall.readings:
        pass
    for thread in threads[1:]:
        thread.start()
    # They wait for the reading that goes on; it must not answer them.
    for thread in threads[1:]:
        thread.join(0.05)
    firewall.go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(found) == [1, 2, 2, 2, 2]
