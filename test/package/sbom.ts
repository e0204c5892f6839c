/**
 * `npm run sbom`: dist/sbom.cdx.json, a CycloneDX 1.5 list of every package that the product runs on, read from package-lock.json.
 *
 * npm makes the list, from a copy of the lock file without the packages that only development needs: told to leave those out by
 * `--omit dev`, it leaves out every package that development needs too, a quarter of them. What differs between two runs is taken out, so
 * that the same lock file and npm give the same bytes: the serial number is derived from the rest, and there is a time only where
 * SOURCE_DATE_EPOCH gives one (seconds).
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'

interface Manifest {
  readonly name: string
  devDependencies?: unknown
}

interface Lock {
  readonly packages: Record<string, { readonly dev?: boolean; devDependencies?: unknown }>
}

interface Bom {
  serialNumber: string
  readonly metadata: { timestamp?: string }
  readonly components: readonly unknown[]
}

const root = resolve(import.meta.dirname, '../..')
const file = resolve(process.argv[2] ?? join(root, 'dist/sbom.cdx.json'))
const read = (name: string): unknown => JSON.parse(readFileSync(join(root, name), 'utf8'))

const bom = listed(read('package.json') as Manifest, read('package-lock.json') as Lock)
const epoch = process.env['SOURCE_DATE_EPOCH']
if (epoch === undefined) delete bom.metadata.timestamp
else bom.metadata.timestamp = new Date(Number(epoch) * 1000).toISOString()
bom.serialNumber = ''
bom.serialNumber = `urn:uuid:${uuid(JSON.stringify(bom))}`

mkdirSync(dirname(file), { recursive: true })
writeFileSync(file, `${JSON.stringify(bom, undefined, 2)}\n`)
console.log(`${relative(process.cwd(), file)}: ${bom.components.length} packages`)

function listed(manifest: Manifest, lock: Lock): Bom {
  delete manifest.devDependencies
  delete lock.packages['']?.devDependencies
  const packages = Object.fromEntries(Object.entries(lock.packages).filter(([, { dev }]) => dev !== true))
  // npm calls the product by the name of the folder.
  const place = mkdtempSync(join(tmpdir(), 'parapet-sbom-'))
  const folder = join(place, manifest.name)
  try {
    mkdirSync(folder)
    writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest))
    writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ ...lock, packages }))
    const words = ['sbom', '--sbom-format', 'cyclonedx', '--sbom-type', 'application', '--package-lock-only']
    // npm says where it lies itself to the scripts that it runs; standing alone this one asks the path.
    const npm = process.env['npm_execpath']
    const [program, args] = npm === undefined ? ['npm', words] : [process.execPath, [npm, ...words]]
    return JSON.parse(execFileSync(program, args, { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] })) as Bom
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

/** [RFC 9562 5.8] Version 8: bits of a hash of our own choice. */
function uuid(content: string): string {
  const hex = createHash('sha256').update(content).digest('hex')
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 3) | 8).toString(16)
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `${variant}${hex.slice(17, 20)}`, hex.slice(20, 32)].join('-')
}
