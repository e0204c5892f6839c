import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * What takes minutes comes first, so that the other worker has something to do meanwhile, and what measures comes last, when that worker
 * has little left; vitest itself begins with large files.
 */
const FIRST = ['test/fault/crash-points.test.ts', 'test/readme.test.ts', 'test/e2e/on-call.test.ts']
const LAST = ['test/bench.test.ts']

class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      if (LAST.some((name) => moduleId.endsWith(name))) return FIRST.length + 1
      const at = FIRST.findIndex((name) => moduleId.endsWith(name))
      return at < 0 ? FIRST.length : at
    }
    return (await super.sort(files)).sort((one, other) => place(one) - place(other))
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/litter.ts'],
    sequence: { sequencer: LongFirst },
    // Two cores: one worker keeps timings of the socket tests honest and memory small.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
})
