/** Times and sizes as options are written: `15m`, `7d`, `64MiB`. */
import { parseDuration } from '../minimise/quantity.ts'
import { UsageError } from './command.ts'

/** @throws UsageError  not a whole number of seconds, or more than mostMs (atMost in words) */
export function secondsIn(option: string, text: string, mostMs: number, atMost: string): number {
  const ms = parseDuration(text)
  if (ms === undefined || ms % 1_000 !== 0 || ms < 1_000 || ms > mostMs) throw new UsageError(`--${option} is a time such as 15m or 1h, at most ${atMost}.`)
  return ms / 1_000
}

/** `64MiB`, `512KiB`, `1GiB` or bytes. @throws UsageError */
export function bytesIn(option: string, text: string, most: number, atMost: string): number {
  const [, number, unit = 'B'] = /^(\d{1,15})\s*(B|KiB|MiB|GiB)?$/.exec(text.trim()) ?? []
  const bytes = Number(number) * 1_024 ** ['B', 'KiB', 'MiB', 'GiB'].indexOf(unit)
  if (number === undefined || bytes > most) throw new UsageError(`--${option} is a size such as 64MiB, at most ${atMost}.`)
  return bytes
}
