/**
 * `$(VAR)` in env values, commands and arguments, as k8s.io/kubernetes/third_party/forked/golang/expansion defines it:
 * a name without a value stays as it stands, `$$` is a dollar sign (so `$$(VAR)` escapes), anything else is literal.
 */
export function expand(text: string, lookUp: (name: string) => string | undefined): string {
  let result = '';
  let at = 0;
  while (at < text.length) {
    const dollar = text.indexOf('$', at);
    if (dollar < 0 || dollar === text.length - 1) break;
    result += text.slice(at, dollar);
    const next = text[dollar + 1];
    const close = next === '(' ? text.indexOf(')', dollar + 2) : -1;
    if (next === '$') {
      result += '$';
      at = dollar + 2;
    } else if (close >= 0) {
      const name = text.slice(dollar + 2, close);
      result += lookUp(name) ?? `$(${name})`;
      at = close + 1;
    } else {
      result += `$${next}`;
      at = dollar + 2;
    }
  }
  return result + text.slice(at);
}
