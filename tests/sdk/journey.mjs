// The whole journey of a client app, with @supabase/supabase-js and nothing of ours.
// Arguments: API URL, anon key, a 384-number embedding as a JSON array (for the hybrid search).
// Prints one JSON object with what it saw; a failed step throws.
import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

const [url, key, embedding] = process.argv.slice(2)
// Node 20 has no WebSocket of its own.
const supabase = createClient(url, key, { realtime: { transport: WebSocket }, auth: { persistSession: false } })
const seen = []

function ok({ data, error }) {
  assert.equal(error, null, JSON.stringify(error))
  return data
}

const email = `${crypto.randomUUID()}@example.org`
ok(await supabase.auth.signUp({ email, password: 'a long password' }))
const { user } = ok(await supabase.auth.signInWithPassword({ email, password: 'a long password' }))

// follow the jobs over Realtime
const waiting = []
function ended(name) {
  const found = seen.find((job) => job.name === name && ['completed', 'dead', 'cancelled'].includes(job.state))
  return found ?? new Promise((resolve) => waiting.push({ name, resolve }))
}
await supabase.realtime.setAuth()
await new Promise((resolve, reject) => {
  supabase
    .channel(`user:${user.id}:jobs`, { config: { private: true } })
    .on('broadcast', { event: 'job_changed' }, ({ payload }) => {
      seen.push(payload)
      for (const waiter of waiting) {
        if (waiter.name === payload.name && ['completed', 'dead', 'cancelled'].includes(payload.state)) waiter.resolve(payload)
      }
    })
    .subscribe((status, error) => {
      if (status === 'SUBSCRIBED') resolve()
      if (status === 'CHANNEL_ERROR' || status === 'TIMED_OUT') reject(error ?? new Error(status))
    })
})

const bucket = supabase.storage.from('documents')
const handbook = `${user.id}/handbook.md`
ok(await bucket.upload(handbook, new Blob(['# Benefits\n\nThe deductible for knee surgery is 500 dollars.\n\n# 休暇\n\n年次有給休暇は一年に二十日です。']), { contentType: 'text/markdown' }))
assert.equal((await ended(handbook)).state, 'completed')

// 3,000 chunks by paging: the same few passages over and over, so that few are embedded
const passages = Array.from({ length: 3000 }, (_, n) => `# Part ${n}\n\nThis is passage ${n % 5} of the long book.`)
const book = `${user.id}/book.md`
ok(await bucket.upload(book, Buffer.from(passages.map((p, n) => p.replace(`Part ${n}`, `Part ${n % 7}`)).join('\n\n')), { contentType: 'text/markdown' }))
assert.equal((await ended(book)).state, 'completed')
const { id: bookId, chunk_count: chunkCount } = ok(await supabase.from('documents').select('id, chunk_count').eq('name', book).single())
const chunks = []
for (let from = 0; ; from += 1000) {
  const page = ok(await supabase.from('chunks').select('ordinal, content').eq('document_id', bookId).order('ordinal').range(from, from + 999))
  chunks.push(...page)
  if (page.length < 1000) break
}
assert.equal(chunks.length, chunkCount)
assert.ok(chunks.length >= 3000, `only ${chunks.length} chunks`)
assert.deepEqual(chunks.map((chunk) => chunk.ordinal), chunks.map((_, n) => n))

const search = async (args) => ok(await supabase.rpc('search', args))
const question = await search({ query_text: 'How much is the deductible for knee surgery?' })
assert.match(question[0].content, /500 dollars/)
assert.equal(question[0].matched_by, 'keyword')
assert.match((await search({ query_text: '"knee surgery"' }))[0].content, /500 dollars/)
assert.match((await search({ query_text: '有給休暇' }))[0].content, /二十日/)
const hybrid = await search({ query_text: 'knee surgery', query_embedding: JSON.parse(embedding), match_count: 3 })
assert.match(hybrid[0].content, /500 dollars/)
const wrong = await supabase.rpc('search', { query_text: 'knee', query_embedding: [1, 0] })
assert.match(wrong.error.message, /384/)

// retry, cancel, delete
const broken = `${user.id}/broken.pdf`
ok(await bucket.upload(broken, Buffer.from('%PDF-1.7 and no more'), { contentType: 'application/pdf' }))
const dead = await ended(broken)
assert.equal(dead.state, 'dead')
assert.ok(dead.error)
assert.equal(ok(await supabase.rpc('retry_job', { job_id: dead.id })), 'available')
const cancelled = await supabase.rpc('cancel_job', { job_id: dead.id })
assert.ok(['cancelled', 'dead'].includes(cancelled.data), JSON.stringify(cancelled))
const foreign = await supabase.rpc('retry_job', { job_id: 999999999 })
assert.equal(foreign.status, 404)
ok(await bucket.remove([handbook, book, broken]))
assert.deepEqual(await search({ query_text: 'knee surgery' }), [])
assert.deepEqual(ok(await supabase.from('documents').select('name')), [])

await supabase.removeAllChannels()
console.log(JSON.stringify({ chunks: chunks.length, broadcasts: seen.length, stages: [...new Set(seen.map((job) => job.stage))] }))
process.exit(0)
