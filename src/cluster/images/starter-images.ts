/**
 * The images that every cluster has from the start, built from this machine's Debian packages under their usual names, so
 * that `kubectl run --image=nginx` works without any registry: pause, busybox, nginx (with curl and a shell, as the real
 * one has them) and curlimages/curl.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import type { ImageConfig, OciLayout } from './layout.ts';
import { RootFilesystem } from './root-filesystem.ts';

/** The sandbox image that containerd is configured with. */
export const PAUSE_IMAGE = 'registry.k8s.io/pause:3.10';

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const BUSYBOX = ['/bin/busybox', '/usr/bin/busybox'];

const NGINX_CONF = `user nginx;
worker_processes 1;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
  access_log /var/log/nginx/access.log main;
  sendfile on;
  keepalive_timeout 65;
  include /etc/nginx/conf.d/*.conf;
}
`;

const NGINX_SITE = `server {
  listen 80;
  listen [::]:80;
  server_name localhost;
  location / {
    root /usr/share/nginx/html;
    index index.html index.htm;
  }
  error_page 500 502 503 504 /50x.html;
  location = /50x.html { root /usr/share/nginx/html; }
}
`;

const NGINX_PAGE = `<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page is served by the nginx of Debian inside a podwire pod.</p>
</body>
</html>
`;

const CURL_ENTRYPOINT = `#!/bin/sh
# Options and URLs go to curl; a command of its own is run as it is.
case "$1" in
  -* | *://*) exec curl "$@" ;;
esac
command -v "$1" >/dev/null 2>&1 && exec "$@"
exec curl "$@"
`;

interface StarterImage {
  readonly name: string;
  readonly config: ImageConfig;
  /** Its layers, lowest first; equal layers are stored once. */
  readonly layers: (pauseProgram: string) => readonly RootFilesystem[];
}

const starterImages: readonly StarterImage[] = [
  {
    name: PAUSE_IMAGE,
    config: { Entrypoint: ['/pause'], Env: [PATH], User: '65535:65535' },
    layers: (pauseProgram) => [new RootFilesystem().copy(pauseProgram, '/pause')],
  },
  { name: 'busybox:latest', config: { Cmd: ['sh'], Env: [PATH] }, layers: () => [base()] },
  {
    name: 'nginx:latest',
    config: {
      Cmd: ['nginx', '-g', 'daemon off;'],
      Env: [PATH],
      ExposedPorts: { '80/tcp': {} },
      StopSignal: 'SIGQUIT',
    },
    layers: () => [base(), curl(), nginx()],
  },
  {
    // What Kubernetes' own documentation debugs DNS with: an nslookup and a dig that honour search domains.
    name: 'registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7',
    config: { Cmd: ['sleep', 'infinity'], Env: [PATH] },
    layers: () => [base(), dnsutils()],
  },
  {
    name: 'curlimages/curl:latest',
    config: {
      Entrypoint: ['/entrypoint.sh'],
      Cmd: ['curl', '--help'],
      Env: [PATH],
      User: '100:101',
      WorkingDir: '/home/curl_user',
    },
    layers: () => [
      base(),
      curl(),
      new RootFilesystem().directory('/home/curl_user', 0o777).file('/entrypoint.sh', CURL_ENTRYPOINT, 0o755),
    ],
  },
];

/** Builds all starter images into the layout. `pauseProgram` is the static program that set-up compiled. */
export async function buildStarterImages(layout: OciLayout, pauseProgram: string): Promise<string[]> {
  for (const { name, config, layers } of starterImages) {
    layout.addImage(name, config, await Promise.all(layers(pauseProgram).map((layer) => layer.toTar())));
  }
  return starterImages.map((image) => image.name);
}

/** The lowest layer of every image but pause: a shell, users, name service, /tmp, this machine's certificates if it has any. */
function base(): RootFilesystem {
  const root = new RootFilesystem()
    .directory('/tmp', 0o1777)
    .directory('/root', 0o700)
    .directory('/var/tmp', 0o1777)
    .directory('/run')
    .directory('/etc')
    .file(
      '/etc/passwd',
      'root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101:nginx:/nonexistent:/bin/false\ncurl_user:x:100:101::/home/curl_user:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n',
    )
    .file('/etc/group', 'root:x:0:\nnginx:x:101:\nnogroup:x:65534:\n')
    .file('/etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n');
  const certificates = '/etc/ssl/certs/ca-certificates.crt';
  if (existsSync(certificates)) root.copy(certificates, certificates, 0o644);
  return withBusybox(root);
}

function withBusybox(root: RootFilesystem): RootFilesystem {
  const program = BUSYBOX.find((path) => existsSync(path)) ?? BUSYBOX[0]!;
  root.copy(program, '/bin/busybox');
  const applets = execFileSync(program, ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean);
  for (const applet of applets) if (applet !== 'busybox') root.symlink(`/bin/${applet}`, 'busybox');
  return root;
}

function curl(): RootFilesystem {
  return new RootFilesystem().program('/usr/bin/curl');
}

function dnsutils(): RootFilesystem {
  const root = new RootFilesystem();
  for (const program of ['nslookup', 'dig', 'host']) root.program(`/usr/bin/${program}`);
  return root;
}

function nginx(): RootFilesystem {
  const root = new RootFilesystem()
    .program('/usr/sbin/nginx')
    .file('/etc/nginx/nginx.conf', NGINX_CONF)
    .file('/etc/nginx/conf.d/default.conf', NGINX_SITE)
    .file('/etc/nginx/mime.types', readFileSync('/etc/nginx/mime.types'))
    .file('/usr/share/nginx/html/index.html', NGINX_PAGE)
    .file('/usr/share/nginx/html/50x.html', '<html><body>An error occurred.</body></html>\n')
    .symlink('/var/log/nginx/access.log', '/dev/stdout')
    .symlink('/var/log/nginx/error.log', '/dev/stderr');
  for (const folder of ['body', 'fastcgi', 'proxy', 'scgi', 'uwsgi']) root.directory(`/var/lib/nginx/${folder}`);
  return root.directory('/usr/lib/nginx/modules').directory('/var/lock');
}
