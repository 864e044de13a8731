"""Uploads a file with tuspy, in parts of 6 MiB as hosted Storage wants them.

It goes on where an earlier run was cut off. Arguments as of `resumable.mjs`. tuspy is installed for this test alone.
"""

from __future__ import annotations

import json
import sys

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

endpoint, token, key, path, bucket, name, urls = sys.argv[1:]
client = TusClient(endpoint, headers={"Authorization": f"Bearer {token}", "apikey": key, "x-upsert": "false"})
metadata = {"bucketName": bucket, "objectName": name, "contentType": "text/plain", "cacheControl": "3600"}
metadata["metadata"] = json.dumps({"by": "tuspy"})
uploader = client.uploader(
    path, chunk_size=6 * 1024 * 1024, metadata=metadata, store_url=True, url_storage=FileStorage(urls)
)
first, error = uploader.offset, None
try:
    uploader.upload()
except Exception as failure:
    error = f"{type(failure).__name__}: {failure}"
print(json.dumps({"error": error, "first": first, "last": uploader.offset}))
