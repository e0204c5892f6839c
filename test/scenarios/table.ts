/**
 * What happens on machines that several people use, and what must leave because of it. To be read by whoever answers for it; what is
 * expected was worked out from the rules of the language (when an output is open), never taken from a run. How to read a line: story.ts.
 *
 * The outputs (rules.yaml has them in full), by their legal ground:
 *   service-cloud   contract: always; a 10 km cell, 1 km with a yes to "service"
 *   shift-energy    contract: always; the machine under a pseudonym of the operator session
 *   site-planning   "statistics": consent (in the United States but California: unless refused, once told); 500 m cell with a yes, else 10 km
 *   site-screen     the same on a screen at the site, for which a yes "on this site only" is enough
 *   operator-app    "feedback": consent (forbidden in China and where the country is unknown; not provided for in Great Britain); the person
 *                   under a pseudonym of 30 days
 *   shift-feedback  the same under a pseudonym of one operator session
 *   security-log    "security", log-ins: legitimate interest, unless objected (in China: the law); the person only with a yes
 *   gate-register   log-ins by law, also where the device setting is off
 *   safety-record   alarms by law; a 500 m cell, never a person
 *   rescue          somebody is trapped: vital interest; exact position and the person
 *
 * The machines: Lyon-1 and Lyon-2 in France, Munich, Leeds, Austin (Texas), Hollywood (California), Changsha; Yard in no known country,
 * Recife in one that the rules do not mention. The people: Anna is employed in France, Ben in Germany, Carla in California, Tom in
 * Texas, Feng in China. A session ends after 12 h, a hand-over makes 2 min of doubt (quarantine), data may arrive 7 days late. Times are UTC.
 */
export interface Scenario {
  readonly situation: string
  readonly story: string
  /** Played in a whole gateway, although nothing waits. */
  readonly whole?: true
  /** Why it does not hold yet: then it must fail, so that the day it holds is noticed. */
  readonly open?: string
}

export const TABLE: Readonly<Record<string, readonly Scenario[]>> = {
  'signing on and off': [
    {
      situation: 'Nobody is signed on: a yes that somebody gave does not count',
      story: `07:00 Anna says yes to statistics
              08:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Anna is signed on and said yes',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              08:06 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Anna signs off: from that moment nobody is known',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              12:00 Anna signs off at Lyon-1
              12:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The key is turned off, which names nobody: whoever was there has gone',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              12:00 the key of Lyon-1 is turned off
              12:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A forgotten logout: after twelve hours the session is over',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              19:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              20:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              23:00 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A forgotten logout, and the next morning somebody else signs on',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              day 2 08:00 Ben signs on at Lyon-1
              day 2 08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              day 2 08:02 Ben says yes to statistics
              day 2 08:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Anna signs on again during her shift: there is no doubt, and her twelve hours begin anew',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              12:00 Anna signs on at Lyon-1
              12:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              23:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              day 2 00:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'One card at two machines: each machine has its own session, and a withdrawal is for both',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Anna signs on at Lyon-2
              09:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:06 Lyon-2 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              10:00 Anna withdraws statistics
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              10:02 Lyon-2 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Signing off at one machine leaves the other session as it is',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Anna signs on at Lyon-2
              10:00 Anna signs off at Lyon-1
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              10:02 Lyon-2 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A sign-off without a sign-on changes nothing',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs off at Lyon-1
              08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:02 Anna signs on at Lyon-1
              08:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Somebody signs off who was not signed on: the machine is in doubt for two minutes, then it is Anna again',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Ben signs off at Lyon-1
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A machine that only Anna uses: her machine, but nobody is known until she signs on',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-2
              10:00 the key of Lyon-2 is turned off
              day 2 08:00 Lyon-2 sends a status
              -> service-cloud: 10 km cell
              day 2 08:01 Lyon-2 sends a charging record
              -> shift-energy: recorded
              day 2 08:02 Anna signs on at Lyon-2
              day 2 08:03 Lyon-2 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A machine that only Anna uses, and she refuses everything: what the contract needs, no more',
      story: `07:00 Anna refuses statistics
              07:01 Anna refuses service
              07:02 Anna refuses feedback
              08:00 Anna signs on at Lyon-2
              08:01 Lyon-2 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'What a sign-on says goes to those who may know it',
      story: `08:00 Anna signs on at Lyon-1
              -> security-log: recorded; gate-register: operator a
              12:00 Anna signs off at Lyon-1
              -> security-log: recorded; gate-register: recorded`,
    },
  ],

  'more than one person': [
    {
      situation: 'Hand-over without a sign-off: for two minutes nobody is known, then it is Ben',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              12:00 Ben signs on at Lyon-1
              12:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:01:59 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell
              12:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Hand-over to somebody who said nothing: Anna\'s yes ends with her session',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              12:00 Ben signs on at Lyon-1
              12:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:30 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:31 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Hand-over race: sign-off and sign-on within two minutes, in the order in which they happened',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:59 Anna signs off at Lyon-1
              12:00 Ben signs on at Lyon-1
              12:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Hand-over race: the sign-on arrives before the sign-off that happened first',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              12:00:10 Ben signs on at Lyon-1 dated 12:00
              12:00:20 Anna signs off at Lyon-1 dated 11:59
              12:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:01:10 Lyon-1 sends a status dated 11:59:30
              -> service-cloud: 10 km cell
              12:01:20 Lyon-1 sends a status dated 11:58
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              12:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The next person comes after a pause of two minutes: there is no doubt',
      story: `07:00 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:58 Anna signs off at Lyon-1
              12:00 Ben signs on at Lyon-1
              12:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Handed over and back',
      story: `07:00 Anna says yes to feedback
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              12:00 Ben signs on at Lyon-1
              12:30 Anna signs on at Lyon-1
              12:31 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              12:32 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator b`,
    },
    {
      situation: 'In the doubt of a hand-over the refusals of both count: Ben\'s sign-on is kept from the security log because Anna objected',
      story: `07:00 Anna objects to security
              08:00 Anna signs on at Lyon-1
              -> gate-register: operator a
              12:00 Ben signs on at Lyon-1
              -> gate-register: recorded
              12:30 Ben signs off at Lyon-1
              -> security-log: recorded; gate-register: recorded`,
    },
    {
      situation: 'Three people within two minutes: the doubt lasts until two minutes after the last',
      story: `07:00 Carla says yes to statistics
              08:00 Anna signs on at Lyon-1
              12:00 Ben signs on at Lyon-1
              12:01 Carla signs on at Lyon-1
              12:02:30 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Two cards at once: the second is the one who works; when the first takes the card out, two minutes of doubt, then still the second',
      story: `07:00 Ben says yes to feedback
              07:01 Anna says yes to feedback
              08:00 Anna signs on at Lyon-1
              09:00 Ben signs on at Lyon-1
              09:10 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell; operator-app: operator b; shift-feedback: operator b
              09:20 Anna signs off at Lyon-1
              09:21 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell
              09:22 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell; operator-app: operator b; shift-feedback: operator b`,
    },
    {
      situation: 'Two cards at once, and the second is taken out: nobody is known',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Ben signs on at Lyon-1
              09:10 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:20 Ben signs off at Lyon-1
              09:30 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Ground rescue: Ben signs on below while Anna is in the basket; the alarm says where, and names nobody while that is in doubt',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:59 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position, operator a
              09:00 Ben signs on at Lyon-1
              09:00:30 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position
              09:01 Anna signs on at Lyon-1
              09:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Trainer and trainee change every few minutes: each has what is theirs, the changes are nobody\'s',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:10 Ben signs on at Lyon-1
              08:11 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:15 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:20 Anna signs on at Lyon-1
              08:21 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:25 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              08:30 Ben signs on at Lyon-1
              08:35 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A minute of track that lies in one session belongs to it',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:10 Lyon-1 sends a track from 09:00 to 09:10
              -> site-planning: 500 m cell`,
    },
    {
      situation: 'A batch that spans a hand-over: both said yes, but whose it is changes inside, so it is nobody\'s',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:58 Lyon-1 sends a track from 11:50 to 11:58
              -> site-planning: 500 m cell
              12:00 Ben signs on at Lyon-1
              12:10 Lyon-1 sends a track from 11:55 to 12:05
              -> nothing`,
    },
    {
      situation: 'A batch that reaches beyond the sign-off',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:58 Lyon-1 sends a track from 11:50 to 11:58
              -> site-planning: 500 m cell
              12:00 Anna signs off at Lyon-1
              12:10 Lyon-1 sends a track from 11:55 to 12:05
              -> nothing`,
    },
    {
      situation: 'A batch that began before the yes is not covered by it',
      story: `08:00 Anna signs on at Lyon-1
              09:00 Anna says yes to statistics
              09:05 Lyon-1 sends a track from 08:55 to 09:05
              -> nothing
              09:15 Lyon-1 sends a track from 09:05 to 09:15
              -> site-planning: 500 m cell`,
    },
    {
      situation: 'A message names another person than the one signed on: nobody is known',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell
              08:06 Lyon-1 sends a status naming a stranger
              -> service-cloud: 10 km cell
              08:07 Lyon-1 sends a status naming the depot code
              -> service-cloud: 10 km cell
              08:08 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'An alarm that names another person than the one signed on does not name anybody',
      story: `08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 raises the alarm: somebody is trapped naming Ben
              -> safety-record: 500 m cell; rescue: exact position
              08:06 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position, operator a`,
    },
  ],

  'cards and codes': [
    {
      situation: 'A code that is painted on the machine is nobody\'s yes',
      story: `07:00 Anna says yes to statistics
              08:00 the depot code signs on at Lyon-1
              -> security-log: recorded; gate-register: recorded
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:00 Anna signs on at Lyon-1
              09:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The painted code after Anna: her session is over',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the depot code signs on at Lyon-1
              09:30 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The technician\'s master code is nobody, also when the technician is on and off again',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the technician signs on at Lyon-1
              09:10 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:30 the technician signs off at Lyon-1
              09:40 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'An unknown card: whoever was there may have gone',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 a stranger signs on at Lyon-1
              09:30 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              10:00 Anna signs on at Lyon-1
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A stranger tries and the machine lets nobody in: Anna is still there',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 a stranger fails to sign on at Lyon-1
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Ben mistypes his code at Anna\'s machine: it is not Ben\'s sign-on',
      story: `07:00 Anna says yes to feedback
              07:01 Ben says yes to feedback
              08:00 Anna signs on at Lyon-1
              09:00 Ben fails to sign on at Lyon-1
              09:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              09:06 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A second card of the same person is the same person, whose yes counts; to the recipient each card is a pseudonym of its own',
      story: `07:00 card K7 belongs to Anna from now on
              07:01 Anna says yes to feedback
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              08:06 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell; operator-app: operator b; shift-feedback: operator b`,
    },
    {
      situation: 'A replacement card: the consent stays, and the lost card is unknown',
      story: `07:00 card K7 belongs to Anna from now on
              07:01 Anna says yes to statistics
              08:00 card K7 signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the key of Lyon-1 is turned off
              10:00 card K7 is lost
              10:01 card K8 belongs to Anna from now on
              10:05 card K8 signs on at Lyon-1
              10:06 Lyon-1 sends a status naming card K8
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              11:00 card K7 signs on at Lyon-1
              11:10 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A re-issued card is a new person: Anna\'s yes is not Ben\'s',
      story: `07:00 card K7 belongs to Anna from now on
              07:01 Anna says yes to statistics
              08:00 card K7 signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              10:00 the key of Lyon-1 is turned off
              day 2 07:00 card K7 belongs to Ben from now on
              day 2 08:00 card K7 signs on at Lyon-1
              day 2 08:05 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A re-issued card: late data of the old holder\'s time are the old holder\'s, of the new holder\'s time the new one\'s',
      story: `07:00 card K7 belongs to Anna from now on
              07:01 Anna says yes to feedback
              07:02 Ben says yes to feedback
              08:00 card K7 signs on at Lyon-1
              08:05 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              10:00 the key of Lyon-1 is turned off
              day 2 07:00 card K7 belongs to Ben from now on
              day 2 08:00 card K7 signs on at Lyon-1
              day 2 08:05 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell; operator-app: operator b; shift-feedback: operator b
              day 2 08:06 Lyon-1 sends a status naming card K7 dated 09:00
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a`,
    },
    {
      situation: 'A re-issued card in a running gateway, which keeps pseudonyms ready: those of the new holder do not serve the old holder\'s time',
      story: `07:00 card K7 belongs to Anna from now on
              07:01 Anna says yes to feedback
              07:02 Ben says yes to feedback
              08:00 card K7 signs on at Lyon-1
              08:05 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              10:00 the key of Lyon-1 is turned off
              day 2 07:00 card K7 belongs to Ben from now on
              day 2 08:00 card K7 signs on at Lyon-1
              day 2 08:05 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell; operator-app: operator b; shift-feedback: operator b
              day 2 08:06 Lyon-1 sends a status naming card K7 dated 09:00
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a`,
      whole: true,
    },
    {
      situation: 'A re-issued card whose old sign-on arrives only now is the old holder\'s sign-on',
      story: `07:00 card K7 belongs to Anna from now on
              07:01 Anna says yes to statistics
              10:00 card K7 belongs to Ben from now on
              10:05 card K7 signs on at Lyon-1 dated 08:00
              10:06 Lyon-1 sends a status dated 09:00
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              11:00 card K7 signs on at Lyon-1
              11:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A card changes hands while its session runs: the message that carries it names the new holder, so nobody is known',
      story: `07:00 card K7 belongs to Anna from now on
              07:01 Anna says yes to statistics
              08:00 card K7 signs on at Lyon-1
              08:05 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 card K7 belongs to Ben from now on
              09:05 Lyon-1 sends a status naming card K7
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The terminal box is screwed to another machine: what names the other machine goes nowhere, and no session comes along',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status as Lyon-1
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Lyon-1 sends a status as Lyon-2
              -> nothing
              10:00 Lyon-2 sends a status as Lyon-2
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A machine that is not in the registry: nothing leaves, not even what the contract needs',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Lyon-1 is struck off the registry
              09:05 Lyon-1 sends a status
              -> nothing
              09:06 Lyon-1 raises the alarm: tilt
              -> nothing`,
    },
    {
      situation: 'An erased person is nobody, from then on and for what was measured before',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Anna is erased
              09:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:06 Lyon-1 sends a status dated 08:10
              -> service-cloud: 10 km cell
              09:10 Anna signs on at Lyon-1
              09:11 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              09:12 the gateway restarts
              09:13 Anna signs on at Lyon-1
              09:14 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Erasing who took over gives nothing back to who was there before',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Ben signs on at Lyon-1
              10:00 Ben is erased
              10:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              10:06 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
  ],

  'late data and wrong clocks': [
    {
      situation: 'Late data of a session belong to it, those from after it to nobody',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              12:00 Anna signs off at Lyon-1
              15:00 Lyon-1 sends a status dated 08:05
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              15:01 Lyon-1 sends a status dated 12:05
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Late data across a hand-over: each to who was there, the two minutes to nobody',
      story: `07:00 Anna says yes to feedback
              07:01 Ben says yes to feedback
              08:00 Anna signs on at Lyon-1
              12:00 Ben signs on at Lyon-1
              15:00 Lyon-1 sends a status naming Anna dated 11:00
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              15:01 Lyon-1 sends a status naming Ben dated 12:01
              -> service-cloud: 10 km cell
              15:02 Lyon-1 sends a status naming Ben dated 12:30
              -> service-cloud: 10 km cell; operator-app: operator b; shift-feedback: operator b
              15:03 Lyon-1 sends a status naming Ben dated 11:00
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The keypad was offline: until Ben\'s sign-on arrives what names him is nobody\'s, then his late data are his',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              10:10 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell
              14:00 Ben signs on at Lyon-1 dated 10:00
              14:01 Lyon-1 sends a status naming Ben dated 10:20
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              14:02 Lyon-1 sends a status dated 10:01
              -> service-cloud: 10 km cell
              14:03 Lyon-1 sends a status naming Anna dated 10:20
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The keypad was offline and the sign-on is lost for good: what names Ben stays nobody\'s',
      story: `07:00 Ben says yes to statistics
              10:10 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell
              12:00 Ben signs off at Lyon-1
              14:00 Lyon-1 sends a status naming Ben dated 10:20
              -> service-cloud: 10 km cell
              15:00 Ben signs on at Lyon-1
              15:01 Lyon-1 sends a status naming Ben
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Events out of order: the sign-off arrives before the sign-on',
      story: `07:00 Anna says yes to statistics
              09:10 Anna signs off at Lyon-1 dated 09:00
              09:11 Anna signs on at Lyon-1 dated 08:00
              09:12 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:13 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Messages out of order: what was measured first arrives last, and each is taken by its own time',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Anna signs off at Lyon-1
              09:10 Lyon-1 sends a status dated 09:05
              -> service-cloud: 10 km cell
              09:11 Lyon-1 sends a status dated 08:59
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:12 Lyon-1 sends a status dated 07:59
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Data older than seven days cannot be attributed any more',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              day 8 08:04 Lyon-1 sends a status dated 08:05
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              day 8 08:06 Lyon-1 sends a status dated 08:05
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The terminal\'s clock is a day ahead: who was there cannot be told',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status dated day 2 08:05
              -> service-cloud: 10 km cell
              08:06 Lyon-1 sends a status dated 08:09
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The terminal\'s clock is more than five minutes ahead',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:10 Lyon-1 sends a status dated 08:15
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              08:10 Lyon-1 sends a status dated 08:15:01
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The terminal\'s clock stands in 1970',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status dated 1970
              -> service-cloud: 10 km cell
              08:06 Lyon-1 raises the alarm: tilt dated 1970
              -> safety-record: 500 m cell
              08:07 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A message without a time: when it was measured is not known, so neither is who was there',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              08:06 Lyon-1 sends a status without a time
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Somebody signs on at a terminal whose clock is wrong: who was there may have gone',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Ben signs on at Lyon-1 dated day 2 09:00
              09:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Somebody signs on at a terminal that has no time: who was there may have gone, and since when somebody else is there cannot be told',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Ben signs on at Lyon-1 without a time
              09:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The gateway\'s clock is set back during a session: the session goes on',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              12:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              11:00 the gateway's clock has been set to this time
              11:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The gateway\'s clock is set back after a yes has expired: it stays expired',
      story: `07:00 Anna says yes to statistics until 10:00
              08:00 Anna signs on at Lyon-1
              09:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:30 the gateway's clock has been set to this time
              09:31 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:32 the gateway restarts
              09:33 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The gateway\'s clock is set back behind a withdrawal: it stays withdrawn',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              11:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              12:00 Anna withdraws statistics
              11:00 the gateway's clock has been set to this time
              11:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              11:02 the gateway restarts
              11:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The hour in which summer time ends is no special hour: pseudonyms stay, and the session still ends after twelve real hours',
      story: `on 2026-10-24:
              20:00 Anna says yes to feedback
              22:00 Anna signs on at Lyon-1
              day 2 00:30 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              day 2 01:30 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              day 2 09:59 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              day 2 10:00 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A pseudonym of 30 days changes at its midnight, also inside a session; the pseudonym of the session does not',
      story: `on 2026-11-02:
              20:00 Anna says yes to feedback
              22:00 Anna signs on at Lyon-1
              23:59 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator s
              day 2 00:00 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator b; shift-feedback: operator s
              day 2 00:01 Lyon-1 sends a status naming Anna dated 23:59
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator s`,
    },
    {
      situation: 'A pseudonym of the session where there is no session: the field is left out',
      story: `08:00 Lyon-1 sends a charging record
              -> shift-energy: recorded
              08:01 Anna signs on at Lyon-1
              08:02 Lyon-1 sends a charging record
              -> shift-energy: machine a
              09:00 Anna signs off at Lyon-1
              09:01 Lyon-1 sends a charging record
              -> shift-energy: recorded
              10:00 Anna signs on at Lyon-1
              10:01 Lyon-1 sends a charging record
              -> shift-energy: machine b
              10:02 Lyon-1 sends a charging record dated 08:30
              -> shift-energy: machine a`,
    },
  ],

  'yes and no': [
    {
      situation: 'Not asked, or asked and not answered: not a yes, and nothing that the contract needs is lost',
      story: `08:00 Anna signs on at Lyon-1
              08:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              08:02 Anna is asked about statistics
              08:03 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              08:04 Anna says yes to statistics
              08:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Being asked again changes no answer',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:01 Anna is asked about statistics
              08:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              08:03 Anna refuses statistics
              08:04 Anna is asked about statistics
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Each purpose has its own yes',
      story: `07:00 Anna says yes to feedback
              08:00 Anna signs on at Lyon-1
              08:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a
              08:02 Anna says yes to service
              08:03 Lyon-1 sends a status
              -> service-cloud: 1 km cell
              08:04 Anna withdraws feedback
              08:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 1 km cell`,
    },
    {
      situation: 'A withdrawal counts from the next message on, also for what was measured before it',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Anna withdraws statistics
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:02 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A yes does not reach back to what was measured before it',
      story: `08:00 Anna signs on at Lyon-1
              09:00 Anna says yes to statistics
              09:01 Lyon-1 sends a status dated 08:59
              -> service-cloud: 10 km cell
              09:02 Lyon-1 sends a status dated 09:01
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Yes, withdrawn, yes again: what the terminal kept from the time of the first yes is not covered by the second',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Anna withdraws statistics
              10:00 Anna says yes to statistics
              10:05 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell
              10:06 Lyon-1 sends a status dated 09:30
              -> service-cloud: 10 km cell
              10:07 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A yes to one purpose given later does not cut short the older yes to another',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              10:00 Anna says yes to service
              10:05 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              10:06 Lyon-1 sends a status
              -> service-cloud: 1 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Withdrawn twice is withdrawn',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Anna withdraws statistics
              09:01 Anna withdraws statistics
              09:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'An agent writes down a refusal, and later the person says yes: the later word of the person counts',
      story: `07:00 an agent writes down that Anna refuses statistics
              08:00 Anna signs on at Lyon-1
              08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:00 Anna says yes to statistics
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The person says yes, and later an agent writes down a refusal: closed',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 an agent writes down that Anna refuses statistics
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A yes that waited on a terminal and does not name what it replaces is not accepted after a withdrawal',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              10:00 Anna withdraws statistics
              11:00 a yes of Anna to statistics arrives, given at 09:00
              -> not accepted
              11:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A yes that names an older state than the newest is not accepted',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              10:00 Anna withdraws statistics
              11:00 a yes of Anna to statistics arrives, given at 10:30, naming an older state
              -> not accepted
              11:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A yes that waited on a terminal and names the withdrawal that it replaces is accepted, from its arrival on',
      story: `07:00 Anna withdraws statistics
              08:00 Anna signs on at Lyon-1
              11:00 a yes of Anna to statistics arrives, given at 09:00, naming what it replaces
              11:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              11:02 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A yes to a time ends at that time, also for what was measured before',
      story: `07:00 Anna says yes to statistics until 10:00
              08:00 Anna signs on at Lyon-1
              09:59 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              10:00 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              10:01 Lyon-1 sends a status dated 09:30
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'An objection closes what rests on a legitimate interest, and nothing else',
      story: `08:00 Anna signs on at Lyon-1
              -> security-log: recorded; gate-register: operator a
              09:00 Anna objects to security
              10:00 Anna signs on at Lyon-1
              -> gate-register: operator a
              11:00 Anna signs off at Lyon-1
              -> gate-register: recorded
              11:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A refusal or a withdrawal is no less than an objection',
      story: `07:00 Anna refuses security
              07:01 Ben withdraws security
              08:00 Anna signs on at Lyon-1
              -> gate-register: operator a
              08:30 Ben signs on at Munich
              -> gate-register: operator b`,
    },
    {
      situation: 'A yes to security names the person in the security log',
      story: `07:00 Anna says yes to security
              08:00 Anna signs on at Lyon-1
              -> security-log: operator a; gate-register: operator g
              09:00 Anna withdraws security
              09:01 Anna signs on at Lyon-1
              -> gate-register: operator g`,
    },
    {
      situation: 'A yes "on this site only" opens the screen at the site and nothing that leaves it',
      story: `07:00 Anna says yes to statistics on this site only
              08:00 Anna signs on at Lyon-1
              08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-screen: 500 m cell
              09:00 Anna says yes to statistics
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              10:00 Anna says yes to statistics on this site only
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-screen: 500 m cell
              11:00 Anna withdraws statistics
              11:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A yes "on this site only" to service makes nothing finer that leaves the site',
      story: `07:00 Anna says yes to service on this site only
              08:00 Anna signs on at Lyon-1
              08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:02 Anna says yes to service
              08:03 Lyon-1 sends a status
              -> service-cloud: 1 km cell`,
    },
    {
      situation: 'A message that names nobody gives the app of the person nothing',
      story: `07:00 Anna says yes to feedback
              08:00 Anna signs on at Lyon-1
              08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:02 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a`,
    },
  ],

  'on the terminal': [
    {
      situation: 'The person who is signed on chooses on the terminal: a yes and a no count at once',
      story: `08:00 Anna signs on at Lyon-1
              08:01 Anna chooses yes to statistics on the terminal of Lyon-1
              -> nothing
              08:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              08:03 Anna chooses no to statistics on the terminal of Lyon-1
              08:04 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A yes on the terminal in the name of somebody who is not signed on there counts for nobody',
      story: `08:00 Anna signs on at Lyon-1
              08:01 Ben signs on at Lyon-2
              08:02 Ben chooses yes to statistics on the terminal of Lyon-1
              08:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:04 Lyon-2 sends a status
              -> service-cloud: 10 km cell
              08:05 Ben says yes to statistics
              08:06 Lyon-2 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A yes on the terminal in the two minutes of a hand-over counts for nobody',
      story: `08:00 Anna signs on at Lyon-1
              12:00 Ben signs on at Lyon-1
              12:01 Ben chooses yes to statistics on the terminal of Lyon-1
              12:10 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:11 Ben chooses yes to statistics on the terminal of Lyon-1
              12:12 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A yes on the terminal under the code that is painted on the machine counts for nobody',
      story: `08:00 the depot code signs on at Lyon-1
              08:01 the depot code chooses yes to statistics on the terminal of Lyon-1
              08:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:03 Anna signs on at Lyon-1
              08:10 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:11 Anna says yes to statistics
              08:12 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
  ],

  countries: [
    {
      situation: 'Texas: statistics are open once the person was told and said nothing, coarse without a yes',
      story: `08:00 Tom signs on at Austin
              08:01 Austin sends a status
              -> service-cloud: 10 km cell
              08:02 Tom is given the notice
              08:03 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell
              08:04 Tom says yes to statistics
              08:05 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              08:06 Tom refuses statistics
              08:07 Austin sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Texas, and nobody is signed on, or a shared code: closed, for nobody was told',
      story: `07:00 Tom is given the notice
              08:00 Austin sends a status
              -> service-cloud: 10 km cell
              08:01 the depot code signs on at Austin
              08:05 Austin sends a status
              -> service-cloud: 10 km cell
              08:10 Tom signs on at Austin
              08:11 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell`,
    },
    {
      situation: 'Texas: an objection or a withdrawal is an opt-out',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Austin
              08:01 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell
              08:02 Tom objects to statistics
              08:03 Austin sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Texas: who allowed the site only has opted out of everything that leaves the site',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Austin
              08:01 Tom says yes to statistics on this site only
              08:02 Austin sends a status
              -> service-cloud: 10 km cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A guest from France in Texas: the stricter of the two countries counts, so a yes is needed',
      story: `07:00 Anna is given the notice
              08:00 Anna signs on at Austin
              08:01 Austin sends a status
              -> service-cloud: 10 km cell
              08:02 Anna says yes to statistics
              08:03 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A guest from Texas in France: the same the other way round',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Lyon-1
              08:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:02 Tom says yes to statistics
              08:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'California asks for a yes where the rest of the United States does not',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Hollywood
              08:01 Hollywood sends a status
              -> service-cloud: 10 km cell
              08:02 Tom says yes to statistics
              08:03 Hollywood sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Somebody employed in California works in Texas: California counts',
      story: `07:00 Carla is given the notice
              07:01 Tom is given the notice
              08:00 Carla signs on at Austin
              08:01 Austin sends a status
              -> service-cloud: 10 km cell
              09:00 Carla signs off at Austin
              10:00 Tom signs on at Austin
              10:01 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell`,
    },
    {
      situation: 'What California does not say comes from the United States: the app with a yes',
      story: `07:00 Carla says yes to feedback
              08:00 Carla signs on at Hollywood
              08:01 Hollywood sends a status naming Carla
              -> service-cloud: 10 km cell; operator-app: operator c; shift-feedback: operator c`,
    },
    {
      situation: 'No known country: the strictest entry; statistics with a yes, the app never',
      story: `07:00 Anna says yes to feedback
              07:01 Anna is given the notice
              08:00 Anna signs on at Yard
              08:01 Yard sends a status naming Anna
              -> service-cloud: 10 km cell
              08:02 Anna says yes to statistics
              08:03 Yard sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A country that the rules do not mention is as an unknown one',
      story: `07:00 Tom says yes to feedback
              07:01 Tom is given the notice
              08:00 Tom signs on at Recife
              08:01 Recife sends a status naming Tom
              -> service-cloud: 10 km cell
              08:02 Tom says yes to statistics
              08:03 Recife sends a status naming Tom
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A country that the rules mention, but not for this purpose: closed, whoever says yes',
      story: `07:00 Anna says yes to feedback
              08:00 Anna signs on at Leeds
              08:01 Leeds sends a status naming Anna
              -> service-cloud: 10 km cell
              09:00 Anna signs off at Leeds
              10:00 Anna signs on at Lyon-1
              10:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a`,
    },
    {
      situation: 'China forbids the app: no yes opens it, neither for the machine there nor for the person from there',
      story: `07:00 Anna says yes to feedback
              07:01 Feng says yes to feedback
              08:00 Anna signs on at Changsha
              08:01 Changsha sends a status naming Anna
              -> service-cloud: 10 km cell
              08:02 Feng signs on at Lyon-1
              08:03 Lyon-1 sends a status naming Feng
              -> service-cloud: 10 km cell
              09:00 Anna signs on at Lyon-2
              09:01 Lyon-2 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a`,
    },
    {
      situation: 'China keeps log-ins by law: there an objection does not close the security log, in France it does',
      story: `07:00 Feng objects to security
              08:00 Feng signs on at Changsha
              -> security-log: recorded; gate-register: operator f
              09:00 Feng signs on at Lyon-1
              -> gate-register: operator f`,
    },
    {
      situation: 'Over the border with a stale registry: Texas counts until the registry says California, then at once, also for what is late',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Austin
              09:00 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell
              10:00 Austin is registered in US-CA
              10:01 Austin sends a status
              -> service-cloud: 10 km cell
              10:02 Austin sends a status dated 09:30
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Over the border from France to Great Britain in mid-session: the session goes on, the app does not',
      story: `07:00 Anna says yes to feedback
              07:01 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell; operator-app: operator a; shift-feedback: operator a
              10:00 Lyon-1 is registered in GB
              10:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The registry forgets where a machine is: unknown is stricter than Texas',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Austin
              09:00 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell
              10:00 Austin is registered in no country
              10:01 Austin sends a status
              -> service-cloud: 10 km cell`,
    },
  ],

  'new rules': [
    {
      situation: 'Rules become wider in mid-session: the yes that was given does not cover them, and must be given anew',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the wider rules become active
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:02 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell
              10:00 Anna says yes to statistics
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 100 m cell; site-screen: 100 m cell
              10:02 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Rules become wider for one purpose: a yes to another stays',
      story: `07:00 Anna says yes to feedback
              07:01 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 the wider rules become active
              09:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator a`,
    },
    {
      situation: 'A yes that the wider rules ended stays ended when the old rules come back',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the wider rules become active
              10:00 the first rules become active
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A refusal is not ended by wider rules',
      story: `07:00 Tom is given the notice
              07:01 Tom refuses statistics
              08:00 Tom signs on at Austin
              09:00 the wider rules become active
              09:01 Tom is given the notice
              09:02 Austin sends a status
              -> service-cloud: 10 km cell
              09:03 Tom says yes to statistics
              09:04 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 100 m cell; site-screen: 100 m cell`,
    },
    {
      situation: 'Rules become coarser: at once, and nobody must be asked',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the coarser rules become active
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 1 km cell; site-screen: 1 km cell`,
    },
    {
      situation: 'Coarser and back: who said yes to the finer cell before has said yes to it',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 the coarser rules become active
              10:00 the first rules become active
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
      open: 'a yes is compared with the rules before, not with what was said yes to',
    },
    {
      situation: 'Who said yes to the coarser cell has not said yes to the finer one',
      story: `07:00 the coarser rules become active
              07:01 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 1 km cell; site-screen: 1 km cell
              09:00 the first rules become active
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A new policy: in Texas nobody was told of it yet, so statistics are closed until they are; a yes elsewhere stays',
      story: `07:00 Tom is given the notice
              07:01 Anna says yes to statistics
              08:00 Tom signs on at Austin
              08:01 Anna signs on at Lyon-1
              08:02 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell
              09:00 the next rules become active
              09:01 Austin sends a status
              -> service-cloud: 10 km cell
              09:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:03 Tom is given the notice
              09:04 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell`,
    },
    {
      situation: 'Rules become wider and the gateway restarts: the yes stays ended',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the wider rules become active
              09:01 the gateway restarts
              09:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
  ],

  'the device setting': [
    {
      situation: 'Off: no session is kept, no yes counts; only the register that the law asks for whatever the setting has the person',
      story: `07:00 Anna says yes to statistics
              07:01 Anna says yes to security
              07:02 the device setting of Lyon-1 becomes off
              08:00 Anna signs on at Lyon-1
              -> security-log: recorded; gate-register: operator a
              08:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              08:06 Lyon-1 sends a charging record
              -> shift-energy: recorded`,
    },
    {
      situation: 'Unknown is off',
      story: `07:00 Anna says yes to statistics
              07:02 the device setting of Lyon-1 becomes unknown
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              09:00 the device setting of Lyon-1 becomes on
              09:01 Anna signs on at Lyon-1
              09:02 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Turned off in mid-session: at once, also for what was measured before',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 the device setting of Lyon-1 becomes off
              09:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:02 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Turned on again: the old session does not come back, somebody must sign on',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 the device setting of Lyon-1 becomes off
              10:00 the device setting of Lyon-1 becomes on
              10:01 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              10:02 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell
              10:03 the gateway restarts
              10:04 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              10:05 Anna signs on at Lyon-1
              10:06 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Somebody signed on while it was off: not signed on when it is turned on',
      story: `07:00 Anna says yes to statistics
              07:30 the device setting of Lyon-1 becomes off
              08:00 Anna signs on at Lyon-1
              09:00 the device setting of Lyon-1 becomes on
              09:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The setting of one machine says nothing of another',
      story: `07:00 Anna says yes to statistics
              07:01 the device setting of Lyon-1 becomes off
              08:00 Anna signs on at Lyon-1
              08:01 Anna signs on at Lyon-2
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              08:06 Lyon-2 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
  ],

  alarms: [
    {
      situation: 'Somebody who refused everything is trapped: the rescue learns where and who, and nothing else opens by it',
      story: `07:00 Anna refuses statistics
              07:01 Anna refuses service
              07:02 Anna refuses feedback
              07:03 Anna objects to security
              08:00 Anna signs on at Lyon-1
              09:00 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position, operator a
              09:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Somebody is trapped and nobody is signed on',
      story: `09:00 Lyon-1 raises the alarm: somebody is trapped
              -> safety-record: 500 m cell; rescue: exact position
              09:01 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position`,
    },
    {
      situation: 'A tilt is recorded whatever anybody chose, and is no rescue',
      story: `07:00 Anna refuses statistics
              08:00 Anna signs on at Lyon-1
              09:00 Lyon-1 raises the alarm: tilt naming Anna
              -> safety-record: 500 m cell
              09:01 Anna says yes to statistics
              09:02 Lyon-1 raises the alarm: tilt naming Anna
              -> safety-record: 500 m cell
              09:03 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Somebody is trapped where the device setting is off: where, but not who',
      story: `07:00 the device setting of Lyon-1 becomes off
              08:00 Anna signs on at Lyon-1
              09:00 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position`,
    },
  ],

  'restarts and damage': [
    {
      situation: 'The gateway restarts in mid-session: nothing changes, not even the pseudonym of the session',
      story: `07:00 Anna says yes to feedback
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator s
              09:00 the gateway restarts
              09:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator s
              19:59 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell; operator-app: operator a; shift-feedback: operator s
              20:00 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The gateway restarts after a withdrawal: it is still withdrawn',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 Anna withdraws statistics
              09:01 the gateway restarts
              09:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              09:03 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'The gateway restarts after yes, withdrawn, yes: only the newest yes counts',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              09:00 Anna withdraws statistics
              10:00 Anna says yes to statistics
              10:01 the gateway restarts
              10:02 Lyon-1 sends a status dated 08:30
              -> service-cloud: 10 km cell
              10:03 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The gateway restarts in the two minutes of a hand-over: the doubt stays',
      story: `07:00 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              12:00 Ben signs on at Lyon-1
              12:01 the gateway restarts
              12:01:30 Lyon-1 sends a status
              -> service-cloud: 10 km cell
              12:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The gateway restarts after a yes "on this site only"',
      story: `07:00 Anna says yes to statistics
              07:01 Anna says yes to statistics on this site only
              08:00 Anna signs on at Lyon-1
              08:01 the gateway restarts
              08:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The gateway restarts: who was told is still told',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Austin
              08:01 the gateway restarts
              08:02 Austin sends a status
              -> service-cloud: 10 km cell; site-planning: 10 km cell; site-screen: 10 km cell`,
    },
    {
      situation: 'The ledger is damaged: nobody is known, what needs nobody\'s yes goes on',
      story: `07:00 Anna says yes to statistics
              07:01 Tom is given the notice
              08:00 Anna signs on at Lyon-1
              08:01 Tom signs on at Austin
              08:05 Lyon-1 sends a status
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell
              09:00 somebody changes a byte of the ledger, and the gateway restarts
              09:01 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              09:02 Austin sends a status naming Tom
              -> service-cloud: 10 km cell
              09:03 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position`,
    },
    {
      situation: 'The ledger is damaged and somebody signs on: the log-in that the law asks for is recorded without a name, and no later message is held up',
      story: `07:00 Anna says yes to statistics
              09:00 somebody changes a byte of the ledger, and the gateway restarts
              09:03 Anna signs on at Lyon-1
              -> security-log: recorded; gate-register: recorded
              09:04 Lyon-1 sends a status naming Anna
              -> service-cloud: 10 km cell
              09:05 Lyon-1 raises the alarm: somebody is trapped naming Anna
              -> safety-record: 500 m cell; rescue: exact position`,
    },
    {
      situation: 'The ledger is damaged: nobody can say yes, and no yes is taken',
      story: `07:00 Anna is asked about statistics
              08:00 Anna signs on at Lyon-1
              09:00 somebody changes a byte of the ledger, and the gateway restarts
              09:01 Anna says yes to statistics
              -> not accepted
              09:02 Lyon-1 sends a status
              -> service-cloud: 10 km cell`,
    },
  ],

  'messages that wait': [
    {
      situation: 'Nothing was withdrawn: what waited arrives',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              08:05 Lyon-1 sends a status
              09:00 all recipients come back
              -> service-cloud: 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Withdrawn at one machine while data of another wait',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-2
              08:01 all recipients go away
              08:05 Lyon-2 sends a status
              08:30 Anna signs on at Lyon-1
              08:31 Anna withdraws statistics
              09:00 all recipients come back
              -> service-cloud: 10 km cell; security-log: recorded; gate-register: operator a`,
    },
    {
      situation: 'The finer cell is withdrawn while it waits: the coarse one, for which no yes is needed, arrives in its place',
      story: `07:00 Anna says yes to service
              08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              08:05 Lyon-1 sends a status
              08:30 Anna withdraws service
              09:00 all recipients come back
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Withdrawn and said yes again while data wait: the new yes does not cover them',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              08:05 Lyon-1 sends a status
              08:30 Anna withdraws statistics
              08:40 Anna says yes to statistics
              08:45 Lyon-1 sends a status
              09:00 all recipients come back
              -> service-cloud: 10 km cell | 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'A yes expires while data wait: they do not leave any more, and the coarse cell takes the place of the fine one',
      story: `07:00 Anna says yes to statistics until 10:00
              07:01 Anna says yes to service until 10:00
              08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              09:50 Lyon-1 sends a status
              10:05 all recipients come back
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Rules become wider while data wait: the yes does not cover the new rules, so what waits under it stays',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              08:05 Lyon-1 sends a status
              08:30 the wider rules become active
              09:00 all recipients come back
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'Ben\'s withdrawal leaves what waits of Anna',
      story: `07:00 Anna says yes to statistics
              07:01 Ben says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:01 Ben signs on at Lyon-2
              08:02 all recipients go away
              08:05 Lyon-1 sends a status
              08:06 Lyon-2 sends a status
              08:30 Ben withdraws statistics
              09:00 all recipients come back
              -> service-cloud: 10 km cell | 10 km cell; site-planning: 500 m cell; site-screen: 500 m cell`,
    },
    {
      situation: 'The device setting is turned off while data wait: what is about the operator is gone, what the contract needs arrives',
      story: `07:00 Anna says yes to statistics
              07:01 Anna says yes to service
              08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              08:05 Lyon-1 sends a status
              08:30 the device setting of Lyon-1 becomes off
              09:00 all recipients come back
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'An objection takes the log-in that waits out of the security log, and leaves the one that the law asks for',
      story: `07:59 all recipients go away
              08:00 Anna signs on at Lyon-1
              08:30 Anna objects to security
              09:00 all recipients come back
              -> gate-register: operator a`,
    },
    {
      situation: 'A log-in in the two minutes of a hand-over waits: the objection of either person takes it out',
      story: `07:59 all recipients go away
              08:00 Anna signs on at Lyon-1
              12:00 Ben signs on at Lyon-1
              12:05 Ben objects to security
              13:00 all recipients come back
              -> security-log: recorded; gate-register: operator a | recorded`,
    },
    {
      situation: '"On this site only" instead of yes while data wait: the screen at the site gets them, nobody else',
      story: `07:00 Anna says yes to statistics
              08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              08:05 Lyon-1 sends a status
              08:30 Anna says yes to statistics on this site only
              09:00 all recipients come back
              -> service-cloud: 10 km cell; site-screen: 500 m cell`,
    },
    {
      situation: 'Texas: refused while coarse data wait that needed no yes, only that nobody refuses',
      story: `07:00 Tom is given the notice
              08:00 Tom signs on at Austin
              08:01 all recipients go away
              08:05 Austin sends a status
              08:30 Tom refuses statistics
              09:00 all recipients come back
              -> service-cloud: 10 km cell`,
    },
    {
      situation: 'A refusal takes nothing from the alarm that waits',
      story: `08:00 Anna signs on at Lyon-1
              08:01 all recipients go away
              08:05 Lyon-1 raises the alarm: somebody is trapped naming Anna
              08:30 Anna refuses service
              08:31 Anna objects to security
              09:00 all recipients come back
              -> safety-record: 500 m cell; rescue: exact position, operator a`,
    },
  ],
}
