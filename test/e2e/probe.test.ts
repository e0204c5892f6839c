import { test } from 'vitest'
import { OWN_TOPICS, Stage, encode, MESSAGES } from './stage.ts'
const M: Record<string, Record<string, unknown>> = {
 operator: { op: 'SIGN_ON', method: 'METHOD_CARD', certificate_valid: true, card_uid: 'BKG8fA==', display_name: 'A. Beispiel', certificate_no: 'PAL-000', certificate_expiry_day: 20_999, employer: 'Muster Bau' },
 status: { lat_e7: 457640430, lon_e7: 48356590, fix: 3, key_on: true, mode: 'MODE_LIFT', soc_pct_x10: 825, platform_height_mm: 9_300, hour_meter_s: 4521780, site_code: 'LYS-4', display_text: 'Bonjour Anna' },
 comms: { ip: '192.0.2.17', imei: '490154203237518', imsi: '001010123456789', iccid: '89010012345678901236', apn: 'iot.example', rssi_dbm: -87, tx_kb: 812, rx_kb: 95, mcc: 208, mnc: 1, lac: 4_321, cell_id: 8_765, wifi_bssid: ['02:00:5e:10:00:01'], ble_mac: ['02:00:5e:10:00:02'] },
 session: { start_ms: 1, end_ms: 2, drive_s: 1_260, lift_s: 3_480, idle_s: 660, lifts: 41, tilt_events: 1, overload_events: 2, score_pct_x10: 815, energy_wh: 5_300 },
 consent: { purpose: 'improve.statistics', choice: 'WITHDRAW', policy_id: 'awp-2026-11', language: 'fr' },
 can: { f: [{ id: 217_056_256, data: 'AQIDBAUGBwg=', dt_us: 0 }], bus: 1, t0_us: 4 },
}
test('probe', async () => {
  const stage = await Stage.open()
  const all = await Promise.all(Object.entries(OWN_TOPICS).map(([n, f]) => stage.recipient(n, [f])))
  const term = await stage.terminal('SN-1001')
  for (const [kind, message] of Object.entries(M)) for (const stream of Object.keys(MESSAGES)) {
    if (stream === kind) continue
    await term.send(stream, encode(kind, { machine_id: 'SN-1001', time_ms: Date.now(), operator_id: 'A-1001', ...message }))
    await stage.settled(all)
    for (const r of all) for (const { payload, topic } of r.take()) console.log(kind, 'as', stream, '->', topic.split('/').slice(0, 3).join('/'), JSON.stringify(await import('./stage.ts').then((m) => m.decode(stream, payload as Buffer))))
  }
  for (const [k, v] of await stage.counters()) if (v > 0 && k.includes('refused')) console.log(k, v)
  await stage.close()
})
