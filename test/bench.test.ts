/**
 * The benchmark of the minimiser in short: it runs, its JSON is as promised, and the speed has not halved. The figures themselves are for
 * `npm run bench`; the bounds here are far from them, so that a loaded machine does not decide.
 */
import { describe, expect, test, vi } from 'vitest'
import { COPY, PROTOBUFJS, measure, preparedCase, report, timed } from '../bench/minimise.ts'

describe('the minimiser on the status message', () => {
  test('is several times as fast as protobufjs, near a copy, and allocates nothing', { retry: 3, timeout: 60_000 }, async () => {
    const status = preparedCase('status')
    const rows = await measure(timed(status).filter(({ label }) => [COPY, 'minimiser', PROTOBUFJS].includes(label)), 100)
    const written = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
    report('minimise', status, rows, true)
    const lines = written.mock.calls.map(([line]) => JSON.parse(String(line)) as Record<string, unknown>)
    written.mockRestore()
    for (const line of lines) expect(Object.keys(line)).toEqual(['bench', 'case', 'ns', 'vs_protobufjs', 'vs_copy', 'allocated_bytes_per_message'])
    expect(lines[1]?.case).toBe('status 189 B: minimiser')
    expect(lines[1]?.vs_protobufjs).toBeGreaterThan(5)
    expect(lines[1]?.vs_copy).toBeLessThan(16)
    expect(lines[1]?.allocated_bytes_per_message).toBe(0)
  })
})
