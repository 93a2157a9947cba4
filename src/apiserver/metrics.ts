/** The server's own metrics, in Prometheus' text form, under Kubernetes' names. */

/** Upper bounds of the duration histogram, in seconds. */
const BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.5, 1, 5] as const;

interface Series {
  count: number;
  seconds: number;
  readonly buckets: number[];
}

export interface Gauges {
  readonly objects: ReadonlyMap<string, number>;
  readonly watchers: ReadonlyMap<string, number>;
  readonly revision: number;
}

export class Metrics {
  readonly #requests = new Map<string, number>();
  readonly #durations = new Map<string, Series>();

  observe(verb: string, resource: string, code: number, seconds: number): void {
    const request = `verb=${quote(verb)},resource=${quote(resource)},code="${code}"`;
    this.#requests.set(request, (this.#requests.get(request) ?? 0) + 1);
    if (verb === 'watch') return;
    const labels = `verb=${quote(verb)},resource=${quote(resource)}`;
    let series = this.#durations.get(labels);
    if (!series) {
      series = { count: 0, seconds: 0, buckets: BUCKETS.map(() => 0) };
      this.#durations.set(labels, series);
    }
    series.count++;
    series.seconds += seconds;
    BUCKETS.forEach((bound, i) => {
      if (seconds <= bound) series.buckets[i]!++;
    });
  }

  render(gauges: Gauges): string {
    const lines = ['# TYPE apiserver_request_total counter'];
    for (const [labels, count] of this.#requests) lines.push(`apiserver_request_total{${labels}} ${count}`);
    lines.push('# TYPE apiserver_request_duration_seconds histogram');
    for (const [labels, series] of this.#durations) {
      const name = 'apiserver_request_duration_seconds';
      BUCKETS.forEach((bound, i) => {
        lines.push(`${name}_bucket{${labels},le="${bound}"} ${series.buckets[i]}`);
      });
      lines.push(`${name}_bucket{${labels},le="+Inf"} ${series.count}`);
      lines.push(`${name}_sum{${labels}} ${series.seconds}`, `${name}_count{${labels}} ${series.count}`);
    }
    lines.push('# TYPE apiserver_storage_objects gauge');
    for (const [resource, count] of gauges.objects)
      lines.push(`apiserver_storage_objects{resource=${quote(resource)}} ${count}`);
    lines.push('# TYPE apiserver_registered_watchers gauge');
    for (const [resource, count] of gauges.watchers)
      lines.push(`apiserver_registered_watchers{resource=${quote(resource)}} ${count}`);
    lines.push('# TYPE podwire_store_revision gauge', `podwire_store_revision ${gauges.revision}`);
    lines.push(
      '# TYPE process_resident_memory_bytes gauge',
      `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
    );
    return `${lines.join('\n')}\n`;
  }
}

const quote = (text: string): string => JSON.stringify(text.slice(0, 100));
