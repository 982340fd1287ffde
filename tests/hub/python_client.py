#!/usr/bin/env python3
"""The real client, huggingface_hub, and transformers, on both sides of llama3-pull's cache.

    python_client.py hub ROOT CACHE      downloads from the hub that HF_ENDPOINT names, which serves ROOT
    python_client.py cache CACHE MODEL ROOT   opens what is in CACHE without a network, as a model
    python_client.py pull CACHE MODEL    downloads MODEL into CACHE
    python_client.py folder DIR MODEL    the same into a folder
"""
import filecmp
import logging
import os
import sys
import warnings

import huggingface_hub
from huggingface_hub import errors, hf_hub_download, scan_cache_dir, snapshot_download

NEEDED = ["*.json", "*.safetensors"]


class Said(logging.Handler):
    """What the libraries complain about."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []
        logging.getLogger("huggingface_hub").addHandler(self)
        logging.getLogger("transformers").addHandler(self)

    def emit(self, record):
        self.lines.append(record.getMessage())


def compare(folder, source, names=None):
    """Whether each file of a folder is the source's; the names."""
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != ".cache"]
        for name in files:
            path = os.path.join(where, name)
            relative = os.path.relpath(path, folder)
            assert filecmp.cmp(path, os.path.join(source, relative), shallow=False), f"{relative} differs"
            found.append(relative)
    if names is not None:
        assert sorted(found) == sorted(names), (found, names)
    return found


def all_of(source):
    return [os.path.relpath(os.path.join(where, name), source)
            for where, _, names in os.walk(source) for name in names]


def refused(kind, *args, **options):
    try:
        snapshot_download(*args, **options)
    except kind as err:
        print(f"    {kind.__name__}: {str(err).splitlines()[0]}")
        return
    raise AssertionError(f"{args} {options}: expected {kind.__name__}")


def hub(root, cache):
    """Everything that the client asks a hub for, answered as it expects."""
    source = os.path.join(root, "org/tiny")
    said = Said()
    path = snapshot_download("org/tiny", cache_dir=cache, token="hf_good")
    compare(path, source, all_of(source))
    path = snapshot_download("org/tiny", revision="v1", cache_dir=cache, token=False)
    compare(path, source + "@v1", all_of(source + "@v1"))
    path = hf_hub_download("org/tiny", "original/params.json", cache_dir=cache, token=False)
    assert filecmp.cmp(path, os.path.join(source, "original/params.json"), shallow=False)
    folder = snapshot_download("org/tiny", local_dir=os.path.join(cache, "../folder"), token=False)
    compare(folder, source, all_of(source))
    path = snapshot_download("org/gated", cache_dir=cache, token="hf_good")
    compare(path, os.path.join(root, "org/gated"))
    path = snapshot_download("org/old", cache_dir=cache, token="hf_good")
    compare(path, source, all_of(source))
    info = huggingface_hub.HfApi().model_info("org/tiny", files_metadata=True, token=False)
    for sibling in info.siblings:
        assert sibling.size == os.path.getsize(os.path.join(source, sibling.rfilename))
        assert (sibling.lfs is not None) == sibling.rfilename.endswith(".safetensors"), sibling
    assert not said.lines, said.lines
    refused(errors.RepositoryNotFoundError, "org/none", cache_dir=cache, token=False)
    refused(errors.RepositoryNotFoundError, "org/none", cache_dir=cache, token="hf_good")
    refused(errors.RevisionNotFoundError, "org/tiny", revision="none", cache_dir=cache, token=False)
    refused(errors.GatedRepoError, "org/gated", cache_dir=cache + "-2", token=False)
    refused(errors.GatedRepoError, "org/gated", cache_dir=cache + "-2", token="hf_other")
    refused(errors.HfHubHTTPError, "org/tiny", cache_dir=cache + "-2", token="hf_bad")
    try:
        hf_hub_download("org/tiny", "none.json", cache_dir=cache, token=False)
        raise AssertionError("none.json was found")
    except errors.RemoteEntryNotFoundError:
        pass


def cache(folder, model, root):
    """What llama3-pull made, to Python tools without a network."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    warnings.simplefilter("error")
    said = Said()
    scanned = scan_cache_dir(folder)
    assert not scanned.warnings, scanned.warnings
    repositories = {repository.repo_id: repository for repository in scanned.repos}
    assert model in repositories, repositories
    revisions = list(repositories[model].revisions)
    assert any("main" in revision.refs for revision in revisions), revisions
    assert repositories[model].nb_files > 0 and repositories[model].size_on_disk > 0
    path = snapshot_download(model, cache_dir=folder)
    compare(path, os.path.join(root, model))
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    assert AutoConfig.from_pretrained(model, cache_dir=folder).model_type == "llama"
    tokenizer = AutoTokenizer.from_pretrained(model, cache_dir=folder)
    network = AutoModelForCausalLM.from_pretrained(model, cache_dir=folder)
    with torch.no_grad():
        answer = network(torch.tensor([tokenizer.encode("a b c") or [1]]))
    assert torch.isfinite(answer.logits).all()
    assert not said.lines, said.lines


def main():
    what, *args = sys.argv[1:]
    if what == "hub":
        hub(*args)
    elif what == "cache":
        cache(*args)
    elif what == "pull":
        print(snapshot_download(args[1], cache_dir=args[0], allow_patterns=NEEDED))
    elif what == "folder":
        print(snapshot_download(args[1], local_dir=args[0], allow_patterns=NEEDED))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
