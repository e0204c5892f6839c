# syntax=docker/dockerfile:1
#
# The sources run as they are, so there is nothing to build: the first stage fetches the packages, the second one runs.
# Run it with a read-only root file system; /data is the only place that is written:
#
#   docker build -t parapet .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --network host -v parapet-data:/data parapet
#
# The configuration in the image is the trial one, which listens on loopback: --network host lets programs on the same host reach it.
# For anything else mount a folder of your own over /app/config; a listener that is not on loopback needs TLS and refuses to start without.

FROM node:26.10-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The optional packages bring a Node for machines that have an old one; the image has its own.
RUN npm ci --omit=dev --omit=optional --ignore-scripts && npm cache clean --force

FROM node:26.10-bookworm-slim
# NODE_OPTIONS: more room for messages under way (64 MB, three times), which under much load are gone before the collector copies them a second time.
# NODE_COMPILE_CACHE: the compiled form of the sources is kept on the volume, and the second start takes a third of the time.
ENV NODE_ENV=production \
    NODE_OPTIONS=--max-semi-space-size=64 \
    NODE_COMPILE_CACHE=/data/compile-cache
WORKDIR /app
# Whatever the process can write is in /data; its own code and packages belong to root.
COPY --from=packages /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY proto ./proto
COPY config ./config
COPY src ./src
RUN install -d -o node -g node -m 0700 /data
# By number, so that an orchestrator can see that it is not root.
USER 1000:1000
VOLUME ["/data"]
EXPOSE 1883 1884 8080
# Live, not ready: a gateway without rules is not ready, and a restart would not help it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["node", "-e", "fetch('http://127.0.0.1:8080/healthz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
STOPSIGNAL SIGTERM
CMD ["node", "src/main.ts", "serve", "--config", "config/gateway.yaml", "--set", "data=/data/gateway"]
