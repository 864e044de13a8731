import { PgBoss } from 'pg-boss'
import { BULK, main } from './child.mjs'

const queue = 'no_op'

async function open(url, options = {}) {
  const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false, ...options })
  boss.on('error', (error) => console.error(error))
  await boss.start()
  return boss
}

await main({
  async install(url) {
    const boss = await open(url)
    await boss.createQueue(queue, { notify: true })
  },
  async single(url, jobs, go) {
    const boss = await open(url)
    await go()
    for (let n = 0; n < jobs; n++) await boss.send(queue, {})
  },
  async bulk(url, jobs, go) {
    const boss = await open(url)
    await go()
    for (let begin = 0; begin < jobs; begin += BULK) {
      await boss.insert(queue, Array.from({ length: Math.min(BULK, jobs - begin) }, () => ({ data: {} })))
    }
  },
  async insert(url, client) {
    const boss = await open(url)
    const db = { executeSql: (text, values) => client.query(text, values) }
    return () => boss.send(queue, {}, { db })
  },
  async work(url, noOp, go) {
    const boss = await open(url, { supervise: true, useListenNotify: true })
    await go()
    await boss.work(queue, { batchSize: 1000, localConcurrency: 2, burstWhenBatchFull: true }, async (jobs) => {
      for (const _ of jobs) noOp()
    })
  },
})
