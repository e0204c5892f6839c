import { loadRules } from '../../src/config/rules.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { GOOD, load } from './fixture.ts'
const schemas = loadSchemas(['proto'])
const small = `# yaml-language-server: $schema=./rules.schema.json
version: 1
streams:
  status: { topic: "up/{fleet}/{machine}/status", message: awp.v1.Status }
outputs:
  cloud:
    recipient: { id: oem-cloud, role: controller, region: EU }
    purpose: service.operate
    basis: contract                       # the same in every country; legal_basis: (below) for a table
    to: { topic: "out/{stream}/{machine_id}", via: [local] }
    streams:
      status: { keep: not_personal, fields: { machine_id: { pseudonym: {} }, time_ms: keep } }
`
for (const f of loadRules('r', small, { schemas }).findings) console.log(`${f.place.line}:${f.place.col} ${f.severity} ${f.code} ${f.text}   @${f.path}`)
// size
let big = GOOD.slice(0, GOOD.indexOf('tests:'))
let s = 'streams:\n', o = 'outputs:\n'
for (let i = 0; i < 1000; i++) s += `  s${i}: { topic: "up/{fleet}/{machine}/s${i}", message: lift.v1.Status, time: { field: time_ms, unit: ms }, points: { position: { lat: lat_e7, lon: lon_e7, unit: e7 } } }\n`
for (let j = 0; j < 20; j++) { o += `  o${j}:\n    recipient: cloud\n    purpose: service.operate\n    to: { topic: "out/o${j}/{stream}/{machine_id}" }\n    fields: { machine_id: { pseudonym: { rotate: never } }, position: { consent: { grid: 1km }, no_consent: { grid: 10km } } }\n    streams:\n`; for (let i = 0; i < 1000; i++) o += `      s${i}: { keep: not_personal }\n` }
big = big.slice(0, big.indexOf('streams:')) + s + big.slice(big.indexOf('purposes:'), big.indexOf('outputs:')) + o
console.log(big.length)
for (let k = 0; k < 3; k++) { const t = process.cpuUsage(); const l = load(big); console.log(process.cpuUsage(t).user / 1000, l.findings.length, l.findings[0]?.text, l.policy?.outputs.length, process.memoryUsage().rss >> 20) }
