// Uploads a file with tus-js-client, in parts of 6 MiB as hosted Storage wants them, and goes on where an earlier run
// was cut off. Arguments: endpoint, token, API key, the file, bucket, name, and a file in which URLs are remembered.
// Prints how it ended and how many bytes it sent.
import { createReadStream, statSync } from 'node:fs'
import { FileUrlStorage, Upload } from 'tus-js-client'

const [endpoint, token, key, path, bucketName, objectName, urls] = process.argv.slice(2)
let first = null
let last = 0

const result = await new Promise((resolve) => {
  const upload = new Upload(createReadStream(path), {
    endpoint,
    uploadSize: statSync(path).size,
    chunkSize: 6 * 1024 * 1024,
    retryDelays: null,
    headers: { authorization: `Bearer ${token}`, apikey: key, 'x-upsert': 'false' },
    uploadDataDuringCreation: true,
    urlStorage: new FileUrlStorage(urls),
    fingerprint: async () => `${path} ${objectName}`,
    metadata: {
      bucketName, objectName, contentType: 'text/plain', cacheControl: '3600', metadata: JSON.stringify({ by: 'tus-js-client' }),
    },
    onProgress(sent) { first ??= sent; last = sent },
    onError: (error) => resolve({ error: error.message }),
    onSuccess: () => resolve({ error: null }),
  })
  upload.findPreviousUploads().then((previous) => {
    if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0])
    upload.start()
  })
})
console.log(JSON.stringify({ ...result, first, last }))
process.exit(0)
