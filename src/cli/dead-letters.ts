/**
 * `parapet dead-letters`: messages that a broker refused for good and a running gateway keeps aside. What they say is never shown.
 */
import { FORMAT, printJson, printTable, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import type { GatewayClient } from './client.ts'

export const command: Command = {
  name: 'dead-letters',
  summary: 'look at messages that a broker refused for good, send them once more, or drop them',
  usage: ['list', 'retry NUMBER... | --all', 'drop NUMBER... | --all'],
  actions: [
    { name: 'list', text: 'where they come from, who refused them and why; exit 1 when there are any' },
    { name: 'retry', text: 'send them to those who refused them, behind all that waits' },
    { name: 'drop', text: 'delete them; what a legal hold asks for is kept and never leaves' },
  ],
  words: [0, 1_000],
  options: [{ name: 'all', text: 'all there are' }, FORMAT, ...GATEWAY_OPTIONS],
  notes: 'They go by themselves after seven days. To retry and drop needs the role engineer or admin.',
  run: (args, io) => (args.action === 'list' ? list(args, io) : settle(args, io)),
}

interface Letter {
  readonly number: number
  readonly output: string
  readonly recipient: string
  readonly stream: string
  readonly refused_by: readonly string[]
  readonly code: string
  readonly bytes: number
  readonly received: string
  readonly until: string
}

async function list(args: Args, io: Io): Promise<number> {
  if (args.words.length > 0 || args.has('all')) throw new UsageError('dead-letters list takes no numbers. See: parapet dead-letters --help')
  const letters = await lettersOf(gatewayClient(args, io))
  if (letters.length === 0 && args.get('format') !== 'json') io.stdout.write('There are no dead letters.\n')
  else {
    printTable(io, args, ['number', 'output', 'recipient', 'stream', 'refused by', 'code', 'bytes', 'received', 'goes'], letters.map((one) => [
      String(one.number), one.output, one.recipient, one.stream, one.refused_by.join(', '), one.code, String(one.bytes), one.received, one.until,
    ]), { letters })
  }
  return letters.length === 0 ? 0 : 1
}

async function lettersOf(gateway: GatewayClient): Promise<Letter[]> {
  const letters: Letter[] = []
  let after: number | undefined = 0
  while (after !== undefined) {
    const page: { readonly letters: readonly Letter[]; readonly next?: number } = await gateway.request('GET', `/v1/dead-letters?limit=1000&after=${after}`)
    letters.push(...page.letters)
    after = page.next
  }
  return letters
}

async function settle(args: Args, io: Io): Promise<number> {
  const { action, words } = args
  if (words.some((word) => !/^[1-9][0-9]{0,14}$/.test(word))) throw new UsageError(`dead-letters ${action} takes numbers, as dead-letters list shows them.`)
  if (args.has('all') === (words.length > 0)) throw new UsageError(`dead-letters ${action} needs either numbers or --all. See: parapet dead-letters --help`)
  const numbers = [...new Set(words.map(Number))]
  const answer = await gatewayClient(args, io).request<{ readonly retried?: number; readonly dropped?: number }>('POST', `/v1/dead-letters/${action}`, args.has('all') ? {} : { numbers })
  const count = answer.retried ?? answer.dropped ?? 0
  if (args.get('format') === 'json') printJson(io, answer)
  else io.stdout.write(action === 'retry' ? `${count} ${count === 1 ? 'message waits' : 'messages wait'} again.\n` : `${count} ${count === 1 ? 'message is' : 'messages are'} deleted.\n`)
  // Some of the numbers are no dead letters, or a legal hold keeps them.
  return count < numbers.length ? 1 : 0
}
