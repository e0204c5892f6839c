/**
 * `parapet why`: why nothing arrives, or something: the last messages of a machine, what an output made of them, and what to do next.
 */
import { columns, FORMAT, printJson } from './command.ts'
import type { Command } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'

export const command: Command = {
  name: 'why',
  summary: 'say why nothing arrives from a machine at an output',
  usage: ['--machine M --output O'],
  options: [
    { name: 'machine', arg: 'M', text: 'id of the machine', required: true },
    { name: 'output', arg: 'O', text: 'output of the rules', required: true },
    FORMAT, ...GATEWAY_OPTIONS,
  ],
  notes: 'What the person on the machine said is shown to the role privacy or admin alone.',
  async run(args, io) {
    const [machine, output] = [args.get('machine') ?? '', args.get('output') ?? '']
    const why = await gatewayClient(args, io).request<Why>('GET', `/v1/why?machine=${encodeURIComponent(machine)}&output=${encodeURIComponent(output)}`)
    if (args.get('format') === 'json') {
      printJson(io, why)
      return 0
    }
    const { person, messages } = why
    const said = person === undefined ? [] : [['person', person.known ? `signed on, ${person.yes ? 'said yes' : person.no ? 'said no' : 'has not answered'}, notice ${person.notice ? 'given' : 'not given'}` : `nobody known, device setting ${person.collection ? 'on' : 'off'}`]]
    io.stdout.write(`${[
      ...columns([['machine', why.machine], ['output', why.output], ['country', why.country ?? 'unknown'], ['basis', why.basis ?? 'not listed: closed'], ...said], ''),
      '',
      ...(messages.length === 0 ? [] : [...columns([['at', 'stream', 'result', ''], ...messages.map((one) => [one.at, one.stream ?? '-', one.result, one.text])], ''), '']),
      why.next,
    ].join('\n')}\n`)
    return 0
  },
}

interface Why {
  readonly machine: string
  readonly output: string
  readonly country?: string
  readonly basis?: string
  readonly messages: readonly { readonly at: string; readonly stream?: string; readonly result: string; readonly text: string }[]
  readonly person?: { readonly known: boolean; readonly yes: boolean; readonly no: boolean; readonly notice: boolean; readonly collection: boolean }
  readonly next: string
}
