/**
 * What happens in the demo, and what to look at. Times are for a minute; a longer or shorter demo stretches them.
 * The sentences describe the shipped rules (config/rules/awp.yaml); a test holds the names in them together.
 */
import type { Caption } from './screen.ts'

/** What a step may do. */
export interface Stage {
  signOn(who: 'anna' | 'ben'): void
  signOff(): void
  check(): void
  overload(): void
  /** Through the admin API; resolves with a line about the receipt. */
  consent(operator: string, purpose: string, state: 'granted' | 'withdrawn'): Promise<string>
}

export interface Step {
  readonly atS: number
  readonly caption: Caption
  act(stage: Stage): Promise<string> | void
}

export const MINUTE_S = 60

export const STORY: readonly Step[] = [
  {
    atS: 0,
    caption: {
      happens: 'A scissor lift in Lyon is switched on. Nobody is signed on.',
      look: 'oem-cloud: it knows the machine by a pseudonym, to the minute, somewhere in a 10 km cell. rental-company gets hours for the bill, nothing else.',
    },
    act: () => {},
  },
  {
    atS: 6,
    caption: {
      happens: 'Anna signs on with her card. Nobody has asked her anything yet, so every answer counts as no.',
      look: 'operator_id and display_text: the terminal names her in every message, and no recipient receives either. The security desk learns that somebody signed on, not who.',
    },
    act: (stage) => stage.signOn('anna'),
  },
  {
    atS: 12,
    caption: {
      happens: 'She answers the pre-use check.',
      look: 'the lower part: the safety archive gets the result, because the law asks for it; her remark and her name stay here.',
    },
    act: (stage) => stage.check(),
  },
  {
    atS: 17,
    caption: {
      happens: 'Anna says yes to statistics (improve.statistics).',
      look: 'site-planner: it begins to receive, with a 500 m cell, the quarter hour, heights and charge in coarse steps, and another pseudonym.',
    },
    act: (stage) => stage.consent('op-anna', 'improve.statistics', 'granted'),
  },
  {
    atS: 24,
    caption: {
      happens: 'She also says yes to a finer position for the service technician (service.operate).',
      look: 'lat_e7 and lon_e7 at oem-cloud: from a 10 km cell to a 1 km cell. Nothing else there changes.',
    },
    act: (stage) => stage.consent('op-anna', 'service.operate', 'granted'),
  },
  {
    atS: 30,
    caption: {
      happens: 'And yes to her own app (personalise).',
      look: 'my-app: the charge of her machine, under a pseudonym of hers that changes every 30 days.',
    },
    act: (stage) => stage.consent('op-anna', 'personalise', 'granted'),
  },
  {
    atS: 36,
    caption: {
      happens: 'The platform is overloaded.',
      look: 'the lower part: safety-archive gets it whatever anybody chose, with a 500 m cell and the load, without the person.',
    },
    act: (stage) => stage.overload(),
  },
  {
    atS: 41,
    caption: {
      happens: 'Anna withdraws her yes to statistics.',
      look: 'site-planner: nothing any more, from this message on; what was still queued for it is gone. The others do not notice.',
    },
    act: (stage) => stage.consent('op-anna', 'improve.statistics', 'withdrawn'),
  },
  {
    atS: 47,
    caption: {
      happens: 'She signs off. The terminal sends a summary of her work, with a score.',
      look: 'my-app: driving and lifting time, without score and idle time: rating people is forbidden in these rules, whatever they say.',
    },
    act: (stage) => stage.signOff(),
  },
  {
    atS: 52,
    caption: {
      happens: 'Ben takes over. He said yes to everything long ago.',
      look: 'my-app and site-planner: still nothing. For two minutes after a hand-over nobody counts as known, so that nothing of one person is taken for the other\'s.',
    },
    act: (stage) => stage.signOn('ben'),
  },
]

/** Yes of the second operator, given before the story begins. */
export const BEFORE: readonly { readonly operator: string; readonly purpose: string }[] = [
  { operator: 'op-ben', purpose: 'improve.statistics' },
  { operator: 'op-ben', purpose: 'personalise' },
  { operator: 'op-ben', purpose: 'service.operate' },
]

/** The outputs that get Status, in the order of the columns. */
export const STATUS_OUTPUTS = ['service-cloud', 'site-planning', 'rental-billing', 'operator-app'] as const
