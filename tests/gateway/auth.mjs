// Auth with @supabase/supabase-js. Arguments: URL, publishable key, secret key. A failed assertion ends it.
import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

const [url, publishable, secret] = process.argv.slice(2)
const options = { realtime: { transport: WebSocket }, auth: { persistSession: false, autoRefreshToken: false } }
const { auth } = createClient(url, publishable, options)
const { auth: { admin } } = createClient(url, secret, options)
const credentials = { email: `${crypto.randomUUID()}@example.org`, password: 'a long password' }

function ok({ data, error }) {
  assert.equal(error, null, JSON.stringify(error))
  return data
}

const { user } = ok(await auth.signUp({ ...credentials, options: { data: { name: 'A' } } }))
assert.equal(user.user_metadata.name, 'A')
assert.equal((await auth.signUp(credentials)).error.code, 'user_already_exists')
assert.equal((await auth.signInWithPassword({ ...credentials, password: 'another' })).error.code, 'invalid_credentials')
const first = ok(await auth.signInWithPassword(credentials)).session
const second = ok(await auth.refreshSession()).session
assert.notEqual(second.refresh_token, first.refresh_token)
assert.equal(ok(await auth.getUser()).user.id, user.id)
const { claims, header } = ok(await auth.getClaims())
assert.deepEqual([header.alg, claims.sub, claims.role], ['ES256', user.id, 'authenticated'])
ok(await auth.signOut())
assert.equal((await auth.getUser(second.access_token)).error.name, 'AuthSessionMissingError')
assert.equal(ok(await auth.signInAnonymously()).user.is_anonymous, true)

const made = ok(await admin.createUser({ email: `${crypto.randomUUID()}@example.org`, app_metadata: { plan: 'x' } })).user
assert.equal(made.app_metadata.plan, 'x')
assert.equal(ok(await admin.getUserById(made.id)).user.email, made.email)
assert.equal(ok(await admin.updateUserById(made.id, { user_metadata: { a: 1 } })).user.user_metadata.a, 1)
assert.ok(ok(await admin.listUsers()).users.some((one) => one.id === made.id))
ok(await admin.deleteUser(made.id))
assert.equal((await admin.getUserById(made.id)).error.code, 'user_not_found')
