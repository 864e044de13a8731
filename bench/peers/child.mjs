// A process of one queue under measurement, as bench/queue/child.py is one: node QUEUE.mjs MODE URL JOBS.
import { createInterface } from 'node:readline'
import { writeSync } from 'node:fs'
import pg from 'pg'

export const BULK = 1000

const say = (what) => writeSync(1, `${what}\n`)
const now = () => process.hrtime.bigint()
const tell = 5 // milliseconds

export async function main({ install, single, bulk, insert, work }) {
  const [mode, url, jobs] = [process.argv[2], process.argv[3], Number(process.argv[4])]
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  const go = async () => {
    say('ready')
    await lines.next()
  }
  const until = async () => {
    while (!(await lines.next()).done);
    process.exit(0) // whoever measures is done with us
  }
  if (mode === 'install') {
    await install(url)
    process.exit(0)
  } else if (mode === 'single' || mode === 'bulk') {
    let began
    await { single, bulk }[mode](url, jobs, async () => {
      await go()
      began = now()
    })
    say(now() - began)
    await until()
  } else if (mode === 'insert') {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    const one = await insert(url, client)
    await go()
    while (!(await lines.next()).done) {
      await client.query('begin')
      await one()
      const sent = now()
      await client.query('commit')
      say(sent)
    }
    process.exit(0)
  } else {
    let count = 0
    let told = 0
    if (mode === 'count') {
      setInterval(() => {
        if (count !== told) say((told = count))
      }, tell)
    }
    await work(url, mode === 'count' ? () => { count++ } : () => say(now()), async () => {
      await go()
      void until()
    })
  }
}
