/**
 * `parapet transforms`: the catalogue, as the engine itself knows it.
 */
import { suggestion } from '../config/nearest.ts'
import { TRANSFORMS, type TransformSpec } from '../minimise/transforms.ts'
import { columns, printJson, UsageError } from './command.ts'
import type { Command } from './command.ts'

export const command: Command = {
  name: 'transforms',
  summary: 'list what rules can do with a value',
  usage: ['[NAME] [--format text|json|markdown]'],
  words: [0, 1],
  options: [{ name: 'format', arg: 'FORMAT', text: 'text (default), json, or markdown for config/README.md', choices: ['text', 'json', 'markdown'] }],
  run(args, io) {
    const [name] = args.words
    const specs = name === undefined ? [...TRANSFORMS.values()] : [specNamed(name)]
    const format = args.get('format')
    if (format === 'json') printJson(io, specs.map(jsonOf))
    else if (format === 'markdown') io.stdout.write(markdown(specs))
    else io.stdout.write(`${(name === undefined ? table(specs) : detail(specs[0] as TransformSpec)).join('\n')}\n`)
    return Promise.resolve(0)
  },
}

function specNamed(name: string): TransformSpec {
  const spec = TRANSFORMS.get(name)
  if (spec === undefined) throw new UsageError(`There is no transform "${name}". ${suggestion(name, TRANSFORMS.keys())}`)
  return spec
}

const KINDS: Readonly<Record<string, string>> = {
  integer: 'whole numbers', big: '64-bit numbers', float: 'floating point', bool: 'true or false', string: 'texts', bytes: 'bytes', enum: 'enums', message: 'messages', point: 'points',
}

function fitsText(spec: TransformSpec): string {
  return spec.fits.length === Object.keys(KINDS).length ? 'everything' : spec.fits.map((kind) => KINDS[kind] ?? kind).join(', ')
}

function table(specs: readonly TransformSpec[]): string[] {
  return columns([['transform', 'fits', 'example', 'what it does'], ...specs.map((spec) => [spec.name, fitsText(spec), spec.example, spec.summary])], '')
}

function detail(spec: TransformSpec): string[] {
  return [
    `${spec.name}: ${spec.summary}`, '',
    ...columns([['example', spec.example], ['fits', fitsText(spec)], ['technique', `${spec.technique} (ISO/IEC 20889)`], ['argument', spec.bare ? 'none needed' : 'needed'], ...argumentRows(spec)]),
  ]
}

/** Keys of an argument that is a map, with what each means. */
function argumentRows(spec: TransformSpec): string[][] {
  const forms = [spec.argument, ...((spec.argument.anyOf as readonly Readonly<Record<string, unknown>>[] | undefined) ?? [])]
  return forms.flatMap((form) => Object.entries((form.properties as Readonly<Record<string, { readonly description?: string }>> | undefined) ?? {})
    .map(([key, { description }]) => [`  ${key}`, description ?? '']))
}

function jsonOf(spec: TransformSpec): Readonly<Record<string, unknown>> {
  const { name, summary, technique, argument, bare, fits, example } = spec
  return { name, summary, technique, fits, bare, argument, example }
}

function markdown(specs: readonly TransformSpec[]): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|')
  return `${['| transform | what it does | fits | technique (ISO/IEC 20889) |', '|---|---|---|---|', ...specs.map((spec) => `| \`${cell(spec.example)}\` | ${cell(spec.summary)} | ${cell(fitsText(spec))} | ${cell(spec.technique)} |`)].join('\n')}\n`
}
