{{/* The pod of a group of Ray. Takes: root, group, image, table (resources, nodeSelector, tolerations), gpus, gpuResource,
     readOnly, ports, readiness, drains, spreadOver. */}}
{{- define "lorry.rayPod" -}}
metadata:
  labels:
    {{- include "lorry.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .group }}
  annotations:
    # Processes read their settings once, so other settings are other pods.
    checksum/settings: {{ include "lorry.settings" .root | sha256sum }}
spec:
  {{- with .root.Values.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with include "lorry.pullSecrets" .root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "lorry.podSecurity" .root | nindent 4 }}
  terminationGracePeriodSeconds: {{ include "lorry.graceSeconds" .root }}
  {{- with include "lorry.placement" .table | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .spreadOver }}
  topologySpreadConstraints:
    {{- range . }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "lorry.selector" $.root | nindent 10 }}
          app.kubernetes.io/component: {{ $.group }}
    {{- end }}
  {{- end }}
  containers:
    - name: ray
      image: {{ include "lorry.image" .image }}
      imagePullPolicy: {{ .root.Values.images.pullPolicy }}
      securityContext:
        {{- include "lorry.containerSecurity" .root | nindent 8 }}
        readOnlyRootFilesystem: {{ .readOnly }}
      {{- with .ports }}
      ports:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      env:
        {{- include "lorry.environment" .root | nindent 8 }}
        # Ray would start gateways and engines at niceness 15, behind all else on the node.
        - name: RAY_worker_niceness
          value: "0"
      {{- with include "lorry.environmentSecrets" .root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with .readiness }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      lifecycle:
        preStop:
          exec:
            command: {{ toJson .preStop }}
      resources:
        {{- $resources := deepCopy (default dict .table.resources) }}
        {{- if .gpus }}
        {{- $resources = merge $resources (dict "limits" (dict)) }}
        {{- $_ := set $resources.limits .gpuResource (.gpus | int | toString) }}
        {{- end }}
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        {{- include "lorry.mounts" .root | nindent 8 }}
  volumes:
    {{- include "lorry.volumes" .root | nindent 4 }}
    - name: home
      emptyDir: {{ toJson (ternary (dict "sizeLimit" .homeSize) (dict) (ne (default "" .homeSize) "")) }}
{{- end }}
