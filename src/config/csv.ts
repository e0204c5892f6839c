/**
 * A CSV file as a map from the first column to its other columns, with places: so that it goes through the same checks as YAML.
 * [RFC 4180] with comma or semicolon.
 */
import type { Finding, Place } from '../domain/errors.ts'
import { found, type Path, type Yaml } from './yaml.ts'

/** Columns named `label.NAME` become `labels: { NAME: … }`; empty values are left out. */
export function parseCsv(file: string, text: string): Yaml {
  const findings: Finding[] = []
  const rows = rowsOf(file, text.startsWith('\uFEFF') ? text.slice(1) : text, findings)
  const [header, ...body] = rows
  const places = new Map<string, Place>()
  const value = Object.create(null) as Record<string, Record<string, unknown>>
  const start: Place = { file, line: 1, col: 1 }
  if (header === undefined) findings.push(found('BAD-CSV', start, '', 'The file is empty.', 'Write a first line with the names of the columns: id,fleet,model,…'))
  else if (header[0]?.text !== 'id') findings.push(found('BAD-CSV', header[0]?.place ?? start, '', 'The first column is not "id".', 'Write a first line with the names of the columns: id,fleet,model,…'))
  else {
    for (const row of body) {
      const [first, ...cells] = row
      if (first === undefined) continue
      if (row.length !== header.length) {
        findings.push(found('BAD-CSV', first.place, '', `The line has ${row.length} values, but there are ${header.length} columns.`))
        continue
      }
      if (first.text in value) {
        findings.push(found('DUPLICATE-ID', first.place, '', `The id of this line was used before, in line ${places.get(first.text)?.line}.`))
        continue
      }
      const entry = Object.create(null) as Record<string, unknown>
      places.set(first.text, first.place)
      for (const [index, cell] of cells.entries()) {
        const column = header[index + 1]?.text ?? ''
        if (cell.text === '') continue
        const label = /^label\.(.+)$/.exec(column)?.[1]
        places.set(`${first.text}\u0000${label === undefined ? column : `labels\u0000${label}`}`, cell.place)
        if (label === undefined) entry[column] = cell.text
        else ((entry.labels ??= Object.create(null)) as Record<string, string>)[label] = cell.text
      }
      value[first.text] = entry
    }
  }
  const place = (path: Path): Place => {
    for (let length = path.length; length > 0; length--) {
      const known = places.get(path.slice(0, length).join('\u0000'))
      if (known !== undefined) return known
    }
    return start
  }
  return { file, text, value: findings.length > 0 ? undefined : value, findings, place, placeIn: place, has: (path) => places.has(path.join('\u0000')) }
}

/** Rows as a text that `parseCsv` reads back. */
export function writeCsv(rows: readonly (readonly string[])[]): string {
  return rows.map((row) => `${row.map((cell) => (/[",;\r\n]|^\s|\s$|^\uFEFF/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(',')}\n`).join('')
}

interface Cell {
  readonly text: string
  readonly place: Place
}

function rowsOf(file: string, text: string, findings: Finding[]): Cell[][] {
  const separator = /^[^\n"]*;/.test(text) && !/^[^\n;"]*,/.test(text) ? ';' : ','
  const rows: Cell[][] = []
  let row: Cell[] = []
  let line = 1
  let lineStart = 0
  let at = 0
  const endRow = (): void => {
    if (row.length > 1 || row[0]?.text !== '') rows.push(row)
    row = []
  }
  while (at < text.length) {
    const place: Place = { file, line, col: at - lineStart + 1 }
    let value = ''
    if (text[at] === '"') {
      at += 1
      for (;;) {
        const end = text.indexOf('"', at)
        if (end < 0) {
          findings.push(found('BAD-CSV', place, '', 'A quote is not closed.', 'Close it with ".'))
          return rows
        }
        value += text.slice(at, end)
        at = end + 1
        if (text[at] !== '"') break
        value += '"'
        at += 1
      }
      for (let from = value.indexOf('\n'); from >= 0; from = value.indexOf('\n', from + 1)) line += 1
      lineStart = Math.max(lineStart, text.lastIndexOf('\n', at - 1) + 1)
    } else {
      let end = at
      while (end < text.length && text[end] !== separator && text[end] !== '\n') end += 1
      value = text.slice(at, end).replace(/\r$/, '').trim()
      at = end
    }
    row.push({ text: value, place })
    if (text[at] === '\r') at += 1
    if (text[at] === separator) {
      at += 1
      // A separator at the very end stands before one more, empty value.
      if (at === text.length) row.push({ text: '', place: { file, line, col: at - lineStart + 1 } })
      continue
    }
    if (at < text.length && text[at] !== '\n') {
      findings.push(found('BAD-CSV', place, '', 'Something follows a closing quote.', 'Put the whole value in quotes, and write quotes inside it twice.'))
      return rows
    }
    at += 1
    line += 1
    lineStart = at
    endRow()
  }
  if (row.length > 0) endRow()
  return rows
}
