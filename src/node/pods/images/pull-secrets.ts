/** Credentials for a registry from Secrets of type kubernetes.io/dockerconfigjson and dockercfg. Pure. */
import type { Secret } from '../../../kube/types.ts';
import type { AuthConfig } from '../cri/types.ts';

interface DockerAuth {
  readonly username?: string;
  readonly password?: string;
  readonly auth?: string;
  readonly identitytoken?: string;
}

/** The first that names the registry; undefined when none does. Secrets that cannot be read are passed over. */
export function findCredentials(secrets: readonly Secret[], registry: string): AuthConfig | undefined {
  for (const secret of secrets) {
    for (const [server, auth] of Object.entries(readSecret(secret)))
      if (hostOf(server) === registry) return authConfig(server, auth);
  }
  return undefined;
}

function readSecret(secret: Secret): Record<string, DockerAuth> {
  const { '.dockerconfigjson': modern, '.dockercfg': old } = secret.data ?? {};
  try {
    const parse = (text: string): unknown => JSON.parse(Buffer.from(text, 'base64').toString());
    if (modern) return (parse(modern) as { auths?: Record<string, DockerAuth> }).auths ?? {};
    if (old) return parse(old) as Record<string, DockerAuth>;
  } catch {
    // An unreadable Secret gives no credentials, as in the kubelet.
  }
  return {};
}

/** "https://index.docker.io/v1/" -> "docker.io". */
function hostOf(server: string): string {
  const host = server.replace(/^https?:\/\//, '').split('/')[0]!;
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host;
}

function authConfig(serverAddress: string, { username, password, auth, identitytoken }: DockerAuth): AuthConfig {
  return {
    serverAddress,
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(auth ? { auth } : {}),
    ...(identitytoken ? { identityToken: identitytoken } : {}),
  };
}
