"""A wrong or unknown variable is named, with the nearest right name."""

from __future__ import annotations

import pytest

from pipeline import app
from pipeline.errors import SetupError
from pipeline.providers.llamaparse import LlamaParseParser
from pipeline.settings import load


@pytest.fixture(autouse=True)
def no_env_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_unknown_variable_is_named_with_the_nearest_right_one(monkeypatch):
    monkeypatch.setenv("UPLOAD_PIPELINE_OPENAI_APIKEY", "x")
    with pytest.raises(
        SetupError, match="UPLOAD_PIPELINE_OPENAI_APIKEY is no setting; did you mean UPLOAD_PIPELINE_OPENAI_API_KEY"
    ):
        load()


def test_an_unknown_variable_in_the_env_file_is_named_too(no_env_file):
    (no_env_file / ".env").write_text("UPLOAD_PIPELINE_CONCURENCY=3\n")
    with pytest.raises(SetupError, match="did you mean UPLOAD_PIPELINE_CONCURRENCY"):
        load()


def test_a_wrong_value_is_named(monkeypatch):
    monkeypatch.setenv("UPLOAD_PIPELINE_CONCURRENCY", "many")
    monkeypatch.setenv("UPLOAD_PIPELINE_PARSER", "magic")
    with pytest.raises(SetupError) as refused:
        load()
    assert "UPLOAD_PIPELINE_CONCURRENCY" in str(refused.value)
    assert "UPLOAD_PIPELINE_PARSER" in str(refused.value)


@pytest.mark.parametrize(
    ("parser", "fallback", "shorter", "refused"),
    [
        ("local", "none", "PARSE_TIMEOUT_SECONDS", True),
        ("llamaparse", "none", "LLAMAPARSE_TIMEOUT_SECONDS", True),
        ("llamaparse", "local", "PARSE_TIMEOUT_SECONDS", True),
        ("llamaparse", "none", "PARSE_TIMEOUT_SECONDS", False),
        ("local", "none", "LLAMAPARSE_TIMEOUT_SECONDS", False),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(monkeypatch, parser, fallback, shorter, refused):
    monkeypatch.setenv("UPLOAD_PIPELINE_PARSER", parser)
    monkeypatch.setenv("UPLOAD_PIPELINE_FALLBACK_PARSER", fallback)
    monkeypatch.setenv(f"UPLOAD_PIPELINE_{shorter}", "3600")
    if refused:
        names = rf"UPLOAD_PIPELINE_{shorter} \(3600\).*UPLOAD_PIPELINE_JOB_TIMEOUT_SECONDS \(3600\)"
        with pytest.raises(SetupError, match=names):
            load()
    else:
        load()


def test_no_secret_shows(monkeypatch):
    monkeypatch.setenv("UPLOAD_PIPELINE_OPENAI_API_KEY", "sk-very-secret")
    assert "very-secret" not in repr(load())


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "https://api.cloud.llamaindex.ai"),
        ({"REGION": "eu"}, "https://api.cloud.eu.llamaindex.ai"),
        ({"REGION": "eu", "BASE_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
async def test_a_region_is_an_address_and_an_account_of_its_own(monkeypatch, variables, url):
    monkeypatch.setenv("UPLOAD_PIPELINE_PARSER", "llamaparse")
    monkeypatch.setenv("UPLOAD_PIPELINE_LLAMAPARSE_API_KEY", "llx-key")
    elsewhere = app.accounts(load(llamaparse_base_url="http://127.0.0.1:1"))[0]
    for name, value in variables.items():
        monkeypatch.setenv(f"UPLOAD_PIPELINE_LLAMAPARSE_{name}", value)
    settings = load()
    assert settings.llamaparse_url == url
    assert app.accounts(settings)[0].fingerprint != elsewhere.fingerprint
    parser = LlamaParseParser(settings)
    assert str(parser._client.base_url).rstrip("/") == url
    await parser.close()


def test_a_region_that_there_is_not_is_named(monkeypatch):
    monkeypatch.setenv("UPLOAD_PIPELINE_LLAMAPARSE_REGION", "asia")
    with pytest.raises(SetupError, match="UPLOAD_PIPELINE_LLAMAPARSE_REGION"):
        load()
