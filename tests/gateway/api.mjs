// The Data API and Realtime with @supabase/supabase-js. Arguments: URL, a user's token, their id, somebody else's id.
// Prints READY when a message of the database may come; a failed assertion ends it.
import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

const [url, token, me, other] = process.argv.slice(2)
const supabase = createClient(url, token, { accessToken: async () => token, realtime: { transport: WebSocket } })
const notes = () => supabase.from('notes')

function ok({ data, error, count, status }) {
  assert.equal(error, null, JSON.stringify(error))
  return count === null ? data : { data, count, status }
}

// reading and changing
const made = ok(await notes().insert([{ title: 'one', data: { a: [1] } }, { title: 'two' }]).select('id,title'))
assert.deepEqual(made.map((row) => row.title), ['one', 'two'])
const merged = ok(await notes().upsert({ owner: me, title: 'one', rank: 3 }, { onConflict: 'owner,title' }).select().single())
assert.deepEqual([merged.id, merged.rank, merged.data], [made[0].id, 3, { a: [1] }])
const page = ok(await notes().select('title,data->a->0', { count: 'exact' }).or('title.eq.one,rank.gt.100').order('title', { ascending: false }).range(0, 4))
assert.deepEqual(page, { data: [{ title: 'one', a: 1 }], count: 1, status: 200 })
assert.equal(ok(await notes().select('*', { count: 'exact', head: true })).count, 2)
assert.deepEqual(ok(await notes().select('title').in('title', ['one', 'a,b"c']).maybeSingle()), { title: 'one' })
assert.deepEqual(ok(await notes().update({ tags: ['q'] }).eq('title', 'two').select('tags')), [{ tags: ['q'] }])
assert.equal(ok(await notes().select('title').contains('tags', ['q']).textSearch('title', 'two', { type: 'websearch' })).length, 1)
assert.equal((await notes().delete().eq('title', 'two')).status, 204)

// functions
assert.equal(ok(await supabase.rpc('add', { a: 1 })), 11)
assert.equal(ok(await supabase.rpc('add', { a: 4, b: 5 }, { get: true })), 9)
assert.deepEqual(ok(await supabase.rpc('mine').select('title').limit(1)), [{ title: 'one' }])
assert.equal((await supabase.rpc('nothing', { into_rank: 3 })).status, 204)

// errors
assert.equal((await notes().select().eq('title', 'none').single()).error.code, 'PGRST116')
assert.equal((await supabase.from('nope').select()).error.code, 'PGRST205')
assert.match((await notes().select('id, owner(*)')).error.details, /resource embedding/)
const conflict = await supabase.rpc('conflict')
assert.deepEqual([conflict.status, conflict.error.code, conflict.error.hint], [409, 'PT409', 'wait'])

// realtime
function joined(channel) {
  return new Promise((resolve, reject) => {
    channel.subscribe((state, error) => (state === 'SUBSCRIBED' ? resolve() : error && reject(error)))
  })
}
const own = supabase.channel(`user:${me}`, { config: { private: true } })
const news = new Promise((resolve) => own.on('broadcast', { event: 'job_changed' }, resolve))
await joined(own)
console.log('READY')
assert.equal((await news).payload.n, 1)

const theirs = supabase.channel(`user:${other}`, { config: { private: true } })
await assert.rejects(joined(theirs), /Unauthorized: You do not have permissions to read/)

const room = supabase.channel(`room:${me}`, { config: { private: true, broadcast: { self: true, ack: true } } })
const heard = []
const both = new Promise((resolve) => room.on('broadcast', { event: '*' }, (message) => heard.push(message.payload) === 3 && resolve()))
await joined(room)
assert.equal(await room.send({ type: 'broadcast', event: 'hi', payload: { n: 1 } }), 'ok')
assert.equal(await room.send({ type: 'broadcast', event: 'raw', payload: new Uint8Array([1, 2]).buffer }), 'ok')
assert.deepEqual(await room.httpSend('hi', { n: 2 }), { success: true })
await both
assert.deepEqual([heard[0], [...new Uint8Array(heard[1])], heard[2]], [{ n: 1 }, [1, 2], { n: 2 }])

const changes = supabase.channel('changes').on('postgres_changes', { event: '*', schema: 'public' }, () => {})
await assert.rejects(joined(changes), /does not support postgres_changes/)
await supabase.removeAllChannels()
process.exit(0)
