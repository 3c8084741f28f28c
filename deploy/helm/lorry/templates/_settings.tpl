{{/* Fewest replicas of a pool: 1 where the values have none; 0 counts, and lets the pool sleep. */}}
{{- define "lorry.minReplicas" -}}
{{ if hasKey . "minReplicas" }}{{ int .minReplicas }}{{ else }}1{{ end }}
{{- end }}
{{/* Most replicas of a pool, as Lorry reads it: the fewest where the values have none, and at least 1. */}}
{{- define "lorry.maxReplicas" -}}
{{ default (include "lorry.minReplicas" . | int | max 1) .maxReplicas }}
{{- end }}
{{/* Pods of each replica of a pool: one for each node of its engine. */}}
{{- define "lorry.podsPerReplica" -}}
{{ default 1 .nodes | int }}
{{- end }}
{{/* lorry.toml: the tables of `settings`, and what other values say: address, number of gateways, pools. */}}
{{- define "lorry.settings" -}}
{{- $gateway := dict "host" "0.0.0.0" "port" 8080 "replicas" (mul .Values.gateway.pods .Values.gateway.processesPerPod) "max_replicas_per_node" .Values.gateway.processesPerPod "controllers" (min 2 .Values.gateway.pods) "resources" (dict "lorry_gateway" 0.001) -}}
{{- $tables := deepCopy .Values.settings -}}
{{- $_ := set $tables "gateway" (mergeOverwrite (default dict $tables.gateway) $gateway) -}}
{{- $_ := set $tables "registry" (mergeOverwrite (default dict $tables.registry) (dict "artifacts" .Values.artifacts.url)) -}}
{{- $pools := list -}}
{{- range .Values.pools -}}
  {{- $pool := dict "name" .name "kind" .kind "min_replicas" (include "lorry.minReplicas" . | int) "resources" (dict (printf "lorry_pool_%s" .name) 1) -}}
  {{- if gt (include "lorry.podsPerReplica" . | int) 1 }}{{ $_ := set $pool "nodes" .nodes }}{{ else }}{{ $_ := set $pool "max_replicas_per_node" 1 }}{{ end -}}
  {{- with .maxReplicas }}{{ $_ := set $pool "max_replicas" . }}{{ end -}}
  {{- with .sleepAfterS }}{{ $_ := set $pool "sleep_after_s" . }}{{ end -}}
  {{- with .targetRequests }}{{ $_ := set $pool "target_requests" . }}{{ end -}}
  {{- with .gpus }}{{ $_ := set $pool "gpus" . }}{{ end -}}
  {{- with .base }}{{ $_ := set $pool "base" . }}{{ end -}}
  {{- with .checkpoint }}{{ $_ := set $pool "checkpoint" . }}{{ end -}}
  {{- $engine := deepCopy (default dict .engine) -}}
  {{- if ne .kind "transformers" }}{{ $_ := set $engine "interpreter" "/opt/engine/python" }}{{ end -}}
  {{- if $engine }}{{ $_ := set $pool "engine" $engine }}{{ end -}}
  {{- $pools = append $pools $pool -}}
{{- end -}}
{{- $engines := mergeOverwrite (default dict $tables.engines) (dict "pools" $pools) -}}
{{- $_ := set $tables "engines" $engines -}}
{{- /* Helm reads every number of values as a float. */ -}}
{{ regexReplaceAll "(?m)= (-?[0-9]+)\\.0$" (toToml $tables) "= ${1}" | trim }}
{{- end }}
