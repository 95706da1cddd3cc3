"""Fetches the model, or loads it from the cache; shows how the cache looks to huggingface_hub, and what the model answers."""

import pathlib
import sys

import huggingface_hub
import magika

offline = sys.argv[1] == "offline"
snapshot = huggingface_hub.snapshot_download("google/magika", local_files_only=offline)
assert (pathlib.Path(snapshot) / "model.onnx").is_symlink(), "the cache is not laid out as usual"
found = huggingface_hub.try_to_load_from_cache("google/magika", "model.onnx")
assert found == str(pathlib.Path(snapshot) / "model.onnx"), found

cache = huggingface_hub.scan_cache_dir()
assert not cache.warnings, cache.warnings
for repository in cache.repos:
    for revision in sorted(repository.revisions, key=lambda revision: revision.commit_hash):
        refs = ",".join(sorted(revision.refs))
        print(repository.repo_id, revision.commit_hash, f"refs={refs}", revision.nb_files, revision.size_on_disk)

model = magika.Magika(model_dir=pathlib.Path(snapshot))
for text in [b"import os\n\ndef main():\n    print(os.getcwd())\n\nif __name__ == '__main__':\n    main()\n" * 4,
             b"#include <stdio.h>\nint main(void) { printf(\"hello\\n\"); return 0; }\n" * 4]:
    result = model.identify_bytes(text)
    print(result.output.label, f"{result.score:.4f}")
