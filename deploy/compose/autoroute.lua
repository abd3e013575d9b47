-- MR series go to the node, one association for each; what came from the node does not
function OnStableSeries(seriesId, tags, metadata)
  if tags['Modality'] == 'MR' and metadata['RemoteAET'] ~= 'DICOM_NODE' then
    RestApiPost('/modalities/node/store', DumpJson({ Resources = { seriesId }, Synchronous = false }, true))
  end
end
