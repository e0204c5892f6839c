/**
 * Countries and their parts as the rules and the registries may name them: ISO 3166-1 alpha-2 (`DE`), ISO 3166-2 (`US-CA`).
 */
import { EEA } from '../domain/basis.ts'

/** [ISO 3166-1] All officially assigned alpha-2 codes. */
export const COUNTRIES: ReadonlySet<string> = new Set((
  'AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR ' +
  'CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ' +
  'ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ ' +
  'MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI ' +
  'SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW'
).split(' '))

/**
 * A country or one of its parts in the form the rest uses; undefined when it is none.
 * `UK` is reserved in ISO 3166 for GB and read as that. Small letters are not accepted: `no` and `NO` must not be two things.
 */
export function readPlace(text: string): string | undefined {
  const match = /^([A-Z]{2})(?:-([A-Z0-9]{1,3}))?$/.exec(text)
  if (match === null) return undefined
  const country = match[1] === 'UK' ? 'GB' : (match[1] as string)
  if (!COUNTRIES.has(country)) return undefined
  return match[2] === undefined ? country : `${country}-${match[2]}`
}

/** Where a place or group of places lies for transfers of data: `EEA`, or the country itself. */
export function territoryOf(region: string): string {
  if (region === 'EU' || region === 'EEA') return 'EEA'
  const country = region.slice(0, 2) === 'UK' ? 'GB' : region.slice(0, 2)
  return EEA.has(country) ? 'EEA' : country
}

/** What to write instead of a code that is no country, for codes people often write. */
export function placeHint(text: string): string | undefined {
  const upper = text.toUpperCase()
  if (upper === 'EU') return 'For the European Union write EEA: the law that counts here is that of the European Economic Area.'
  if (upper !== text && readPlace(upper) !== undefined) return `Write it in capitals: ${readPlace(upper)}.`
  return COMMON[upper]
}

const COMMON: Readonly<Record<string, string>> = {
  EN: 'EN is a language; England is GB-ENG, the United Kingdom GB.',
  USA: 'Write US.', GER: 'Write DE.', DEU: 'Write DE.', FRA: 'Write FR.', GBR: 'Write GB.', CHN: 'Write CN.', JAP: 'Write JP.',
  CA_US: 'California is US-CA.', WORLD: 'Write default for everywhere else.', ROW: 'Write default for everywhere else.',
}
