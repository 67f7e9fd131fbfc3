"""Names that begin as a setting's do, and are none."""

import os
from pathlib import Path

import pytest

from crossdock.kit.setting_names import UnknownSettingError
from crossdock.settings import Settings, UnreadableSettingsFileError


@pytest.fixture(autouse=True)
def _without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("CROSSDOCK_"):
            monkeypatch.delenv(name)


def test_a_misspelt_setting_is_refused_and_the_one_that_is_near_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDOCK_TRUSTED_PROXYS", "10.0.0.1")
    with pytest.raises(
        UnknownSettingError,
        match=r"CROSSDOCK_TRUSTED_PROXYS .* is no setting; did you mean CROSSDOCK_TRUSTED_PROXIES\?",
    ):
        Settings()


def test_a_name_that_is_near_to_none_is_refused_too_and_its_value_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDOCK_ZZZ", "s3cret-value")
    with pytest.raises(UnknownSettingError, match=r"CROSSDOCK_ZZZ .* is no setting") as refused:
        Settings()
    assert "did you mean" not in str(refused.value)
    assert "s3cret-value" not in str(refused.value)


def test_every_unknown_name_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDOCK_HOSTT", "0.0.0.0")
    monkeypatch.setenv("CROSSDOCK_LOGLEVEL", "debug")
    with pytest.raises(UnknownSettingError, match=r"CROSSDOCK_HOST\?.*CROSSDOCK_LOG_LEVEL\?"):
        Settings()


def test_a_misspelt_line_of_the_settings_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "crossdock.env"
    file.write_text("OTHER_PROGRAMS=1\nCROSSDOCK_PORT=8401\nCROSSDOCK_ALOWED_NETWORKS=10.0.0.0/8\n")
    monkeypatch.setenv("CROSSDOCK_SETTINGS_FILE", str(file))
    with pytest.raises(UnknownSettingError, match=r"CROSSDOCK_ALOWED_NETWORKS.*CROSSDOCK_ALLOWED_NETWORKS"):
        Settings()


def test_the_settings_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "crossdock.env"
    file.write_text("OTHER_PROGRAMS=1\nCROSSDOCK_PORT=8401\n")
    monkeypatch.setenv("CROSSDOCK_SETTINGS_FILE", str(file))
    assert Settings().port == 8401


def test_a_settings_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSSDOCK_SETTINGS_FILE", str(tmp_path / "absent.env"))
    with pytest.raises(
        UnreadableSettingsFileError, match=r"CROSSDOCK_SETTINGS_FILE names .*absent\.env, which cannot be read"
    ):
        Settings()


def test_a_folder_in_place_of_the_settings_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSSDOCK_SETTINGS_FILE", str(tmp_path))
    with pytest.raises(UnreadableSettingsFileError, match="cannot be read"):
        Settings()


def test_a_settings_file_may_be_named_from_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "crossdock.env").write_text("CROSSDOCK_PORT=8401\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    # As it comes from where no shell has replaced the tilde.
    monkeypatch.setenv("CROSSDOCK_SETTINGS_FILE", "~/crossdock.env")
    assert Settings().port == 8401


def test_what_other_parts_of_crossdock_read_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CROSSDOCK_TENANT", "CROSSDOCK_KEY", "CROSSDOCK_WEBHOOK_SECRET", "crossdock_port"):
        monkeypatch.setenv(name, "8402")
    assert Settings().port == 8402


def test_what_kubernetes_says_of_a_service_of_this_name_is_no_misspelling(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "CROSSDOCK_SERVICE_HOST",
        "CROSSDOCK_SERVICE_PORT",
        "CROSSDOCK_SERVICE_PORT_HTTP",
        "CROSSDOCK_PORT_8400_TCP",
        "CROSSDOCK_PORT_8400_TCP_ADDR",
        "CROSSDOCK_POSTGRES_SERVICE_HOST",
        "CROSSDOCK_POSTGRES_PORT_5432_TCP_PORT",
    ):
        monkeypatch.setenv(name, "10.96.0.7")
    monkeypatch.setenv("CROSSDOCK_POSTGRES_PORT", "tcp://10.96.0.7:5432")
    assert Settings().port == 8400
