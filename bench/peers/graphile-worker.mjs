import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import { BULK, main } from './child.mjs'

const logger = new Logger(() => () => {})

// what its own performance test uses, with a larger local queue
const settings = {
  concurrentJobs: 24,
  maxPoolSize: 25,
  localQueue: { size: 1000, refetchDelay: { durationMs: 10 } },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  crontab: ' ',
}

const utilities = (url) => makeWorkerUtils({ connectionString: url, logger })

await main({
  async install(url) {
    await (await utilities(url)).migrate()
  },
  async single(url, jobs, go) {
    const queue = await utilities(url)
    await go()
    for (let n = 0; n < jobs; n++) await queue.addJob('no_op', {})
  },
  async bulk(url, jobs, go) {
    const queue = await utilities(url)
    await go()
    for (let begin = 0; begin < jobs; begin += BULK) {
      const length = Math.min(BULK, jobs - begin)
      await queue.addJobs(Array.from({ length }, () => ({ identifier: 'no_op', payload: {} })))
    }
  },
  async insert(url, client) {
    return () => client.query("select graphile_worker.add_job('no_op', '{}')")
  },
  async work(url, noOp, go) {
    await go()
    await run({
      preset: { worker: { connectionString: url, logger, ...settings } },
      taskList: { no_op: noOp },
      parsedCronItems: [],
      noHandleSignals: true,
    })
  },
})
