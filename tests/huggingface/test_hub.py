"""Exports on the Hub, as far as possible without it."""

import pytest
import requests
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from tti.huggingface import hub


@pytest.mark.parametrize("name", ["name", "a/b/c", "me/na me", "me/-x"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(
        ValueError, match=rf"push={name} (is not the name of a repository|has no owner: push=OWNER/name)"
    ):
        hub.require_name(name)
    hub.require_name("me/a-model")


class Api:
    """A client of the Hub that records its calls."""

    def __init__(self, error=None):
        self.asked, self.error = [], error

    def create_repo(self, *arguments, **options):
        self.asked.append((arguments, options))
        return "the address"

    def upload_folder(self, **options):
        if self.error:
            raise self.error
        self.asked.append(options)


def test_the_folder_is_uploaded_to_a_repository_that_is_made_where_it_is_not_there(monkeypatch, tmp_path):
    api = Api()
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    assert hub.push(tmp_path, "me/model", private=True) == "the address"
    made, uploaded = api.asked
    assert made == (("me/model",), {"private": True, "exist_ok": True})
    assert (uploaded["repo_id"], uploaded["folder_path"]) == ("me/model", tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HfHubHTTPError("403", response=requests.Response()), "refuses .* as me/model: 403. Run `hf auth login`"),
        (LocalTokenNotFoundError("no token"), "no token. Run `hf auth login` once, or set HF_TOKEN"),
        (ConnectionError("down"), r"cannot be reached \(down\); .* is complete"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, tmp_path, error, message):
    monkeypatch.setattr(hub, "HfApi", lambda: Api(error))
    with pytest.raises(ValueError, match=message):
        hub.push(tmp_path, "me/model", private=False)
