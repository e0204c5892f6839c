#!/usr/bin/env node
// `parapet` as npm links it. A checkout has the sources beside this file and runs them; the package has what tsc made of them.
import { existsSync } from 'node:fs'

await import(existsSync(new URL('main.ts', import.meta.url)) ? './main.ts' : '../dist/main.js')
