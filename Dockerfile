# One image with both daemons, as static binaries and nothing else:
#   docker build -t nsqloop .
#   docker run -p 4150:4150 -p 4151:4151 -v nsqd:/data nsqloop /nsqd --data-path=/data --broadcast-address=<host>
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/... && mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/nsq* /
# A named volume takes its owner from here; a directory of the host that is mounted instead must belong to 65532.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
EXPOSE 4150 4151 4152 4160 4161
# The process is PID 1: SIGTERM, which docker stop sends, ends it in order. No entry point, so that the command names the daemon, as with
# the stock image.
CMD ["/nsqd", "--data-path=/data"]
