# find_package(bhpe_model REQUIRED CONFIG PATHS <this folder>)
# target_link_libraries(program PRIVATE bhpe_model::bhpe_model)
if(NOT TARGET bhpe_model::bhpe_model)
  add_library(bhpe_model::bhpe_model STATIC IMPORTED)
  set_target_properties(bhpe_model::bhpe_model PROPERTIES
    IMPORTED_LOCATION "${CMAKE_CURRENT_LIST_DIR}/libmodel.a"
    INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}"
    INTERFACE_LINK_LIBRARIES m)
endif()
set(bhpe_model_WEIGHTS "${CMAKE_CURRENT_LIST_DIR}/weights.bin")
