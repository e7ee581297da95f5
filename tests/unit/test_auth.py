"""Credentials: what is sent, what is refused, what travels; a value shows itself in a header and nowhere else."""

import base64
import copy
import dataclasses
import os
import pickle
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.auth import SECRET_BYTES, Credentials, Scheme, Secret, SecretRef
from pipeline.errors import ConfigError
from tests.cases import cases

VALUE = "Xq7vTtKp2mZr9"
LONG_AGO_S = 1_000_000_000.0


def write(path: Path, text: str, at_s: float | None = None) -> None:
    path.write_text(text)
    if at_s is not None:
        os.utime(path, (at_s, at_s))


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("bearer", {"authorization": f"Bearer {VALUE}"}),
        ("basic", {"authorization": f"Basic {base64.b64encode(f'token:{VALUE}'.encode()).decode()}"}),
        ("api-key", {"api-key": VALUE}),
    ],
)
@pytest.mark.parametrize("kind", ["env", "file"])
def test_each_scheme_has_its_header(
    scheme: Scheme, headers: dict[str, str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_TOKEN", VALUE)
    write(tmp_path / "token", f"{VALUE}\n")
    reference = "env:PIPELINE_TOKEN" if kind == "env" else f"file:{tmp_path / 'token'}"
    credentials = Credentials.parse(scheme, reference)
    assert credentials.headers() == headers
    assert credentials.headers() == headers
    assert credentials.describe() == reference


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_line_ends_at_the_end_are_not_part_of_the_secret(tmp_path: Path, ending: str) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbf" + f"{VALUE}{ending}".encode())
    assert SecretRef("file", str(tmp_path / "token")).resolve().reveal() == VALUE


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        (f"{VALUE}\n{VALUE}", "holds line breaks"),
        (f"{VALUE}\r\nx-injected: 1", "holds line breaks"),
        (f"{VALUE}\x00", "control characters"),
        (f"{VALUE}\t", "control characters"),
        (f"{VALUE} ", "blanks at an end"),
        (f" {VALUE}", "blanks at an end"),
        (f"{VALUE}é", "outside ASCII"),
        (f"Bearer {VALUE}", "begins with the scheme"),
        (f"basic {VALUE}", "begins with the scheme"),
    ],
)
def test_what_no_header_can_carry_is_refused_and_not_shown(tmp_path: Path, text: str, fragment: str) -> None:
    (tmp_path / "token").write_bytes(text.encode())
    credentials = Credentials.parse("bearer", f"file:{tmp_path / 'token'}")
    with pytest.raises(ConfigError, match=fragment) as caught:
        credentials.headers()
    assert str(caught.value).startswith(f"file:{tmp_path / 'token'}: ")
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_other_encodings_are_refused_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(VALUE.encode("utf-16"))
    with pytest.raises(ConfigError, match="outside ASCII") as caught:
        SecretRef("file", str(tmp_path / "token")).resolve()
    assert "\x00" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_variable_that_is_not_set_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_TOKEN", raising=False)
    with pytest.raises(ConfigError) as caught:
        Credentials.parse("bearer", "env:PIPELINE_TOKEN").headers()
    assert str(caught.value) == (
        "PIPELINE_TOKEN is not set in the environment of this process: export it, or use file:PATH"
    )
    monkeypatch.setenv("PIPELINE_TOKEN", "")
    with pytest.raises(ConfigError, match="env:PIPELINE_TOKEN: is empty"):
        Credentials.parse("bearer", "env:PIPELINE_TOKEN").headers()


def _large(path: Path) -> None:
    path.write_text("x" * (SECRET_BYTES + 1))


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda path: None, "this process finds no such file"),
        (Path.mkdir, "is not a plain file"),
        (os.mkfifo, "is not a plain file"),
        (_large, "is larger than 65536 bytes"),
        (lambda path: path.symlink_to(path), "cannot be read by this process: Too many levels of symbolic links"),
    ],
    ids=["missing", "folder", "pipe", "large", "endless link"],
)
def test_a_file_that_holds_no_secret_is_named(tmp_path: Path, make: Callable[[Path], object], fragment: str) -> None:
    make(tmp_path / "token")
    with pytest.raises(ConfigError) as caught:
        Credentials.parse("bearer", f"file:{tmp_path / 'token'}").headers()
    assert str(caught.value).startswith(f"file:{tmp_path / 'token'}: {fragment}")


def test_a_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "token", VALUE)
    assert SecretRef.parse("file:~/token").resolve().reveal() == VALUE


@pytest.mark.parametrize("at_s", [LONG_AGO_S, None], ids=["settled file", "young file"])
def test_a_rotated_file_is_read_again(tmp_path: Path, at_s: float | None) -> None:
    path = tmp_path / "token"
    write(path, "one", at_s)
    credentials = Credentials.parse("api-key", f"file:{path}")
    assert credentials.headers() == {"api-key": "one"}
    write(path, "two", at_s and at_s + 1)
    assert credentials.headers() == {"api-key": "two"}
    write(tmp_path / "new", "six", at_s and at_s + 1)
    os.replace(tmp_path / "new", path)
    assert credentials.headers() == {"api-key": "six"}


def test_a_young_file_of_equal_stamp_is_read_again(tmp_path: Path) -> None:
    path, at_s = tmp_path / "token", time.time()
    write(path, "one", at_s)
    credentials = Credentials.parse("api-key", f"file:{path}")
    assert credentials.headers() == {"api-key": "one"}
    write(path, "two", at_s)
    assert credentials.headers() == {"api-key": "two"}


def test_a_settled_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write(path, "one", LONG_AGO_S)
    credentials = Credentials.parse("api-key", f"file:{path}")
    credentials.headers()["api-key"] = "changed by the caller"
    write(path, "two", LONG_AGO_S)  # same size, time and inode: what no rotation does shows that nothing was read
    assert credentials.headers() == {"api-key": "one"}


def test_a_file_that_is_being_replaced_keeps_the_secret_before_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write(path, "one", LONG_AGO_S)
    credentials = Credentials.parse("api-key", f"file:{path}")
    credentials.headers()
    path.write_text("")
    assert credentials.headers() == {"api-key": "one"}
    path.unlink()
    assert credentials.headers() == {"api-key": "one"}
    write(path, "two")
    assert credentials.headers() == {"api-key": "two"}
    write(path, "a\nb")
    with pytest.raises(ConfigError, match="holds line breaks"):
        credentials.headers()


def test_a_variable_that_changed_is_sent_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials.parse("api-key", "env:PIPELINE_TOKEN")
    for value in ("one", "two"):
        monkeypatch.setenv("PIPELINE_TOKEN", value)
        assert credentials.headers() == {"api-key": value}


def test_a_secret_shows_itself_to_reveal_alone() -> None:
    secret = Secret(VALUE)
    assert secret.reveal() == VALUE
    for text in (repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s %r" % (secret, secret), repr([secret])):  # noqa: UP031
        assert VALUE not in text
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="does not travel"):
            travel(secret)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_credentials_travel_as_a_description_without_what_they_resolved(tmp_path: Path, protocol: int) -> None:
    write(tmp_path / "token", VALUE, LONG_AGO_S)
    credentials = Credentials.parse("bearer", f"file:{tmp_path / 'token'}")
    assert VALUE in credentials.headers()["authorization"]
    travelled = pickle.dumps(credentials, protocol)
    assert VALUE.encode() not in travelled
    arrived = pickle.loads(travelled)
    assert arrived == credentials
    assert hash(arrived) == hash(credentials)
    assert arrived.headers() == credentials.headers()
    for text in (repr(arrived), str(dataclasses.asdict(arrived)), str(dataclasses.astuple(arrived))):
        assert VALUE not in text


def test_credentials_are_frozen() -> None:
    credentials = Credentials.parse("bearer", "env:A")
    with pytest.raises(dataclasses.FrozenInstanceError):
        credentials.scheme = "basic"  # type: ignore[misc]


@cases("text", [VALUE, f"sk-{VALUE}", f"env:{VALUE}-", f"vault:{VALUE}", f"file:{VALUE}\n"])
def test_a_literal_secret_is_no_reference_and_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match='"env:NAME"') as caught:
        Credentials.parse("bearer", text)
    assert VALUE not in str(caught.value)
    assert VALUE not in str(caught.value.__context__)


def test_an_error_of_credentials_travels() -> None:
    with pytest.raises(ConfigError) as caught:
        SecretRef.parse("env:PIPELINE_TOKEN_THAT_NOBODY_SETS").resolve()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
